//! Tables: upper-case headers, two spaces between columns, no borders, nothing at a line's end.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table as Grid};

use super::escape::escape;

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Words, and sizes with their units.
    Left(&'static str),
    /// Plain numbers.
    Right(&'static str),
}

/// A table's lines; fitted to `width` columns of a terminal where there is one. No rows, no lines.
pub fn lines<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: Option<u16>,
) -> Vec<String> {
    let mut grid = Grid::new();
    grid.load_style(comfy_table::presets::NOTHING);
    // Under a column of numbers, too, the header stands at the left.
    grid.set_header(
        columns
            .map(|(Column::Left(header) | Column::Right(header))| Cell::new(header).set_alignment(CellAlignment::Left)),
    );
    for row in rows {
        grid.add_row(row.map(|text| escape(&text)));
    }
    if grid.is_empty() {
        return Vec::new();
    }
    for (index, column) in columns.iter().enumerate() {
        let Some(grid_column) = grid.column_mut(index) else { continue };
        grid_column.set_padding((0, if index + 1 < N { 2 } else { 0 }));
        if matches!(column, Column::Right(_)) {
            grid_column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(width) = width {
        grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    grid.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, number: &str) -> [String; 2] {
        [name.to_owned(), number.to_owned()]
    }

    #[test]
    fn names_are_escaped_before_they_are_measured() {
        let table =
            lines([Column::Left("NAME"), Column::Right("FILES")], [row("a\u{1b}b", "1"), row("写真", "10")], None);
        assert_eq!(table, ["NAME      FILES", "a\\u{1b}b      1", "写真         10"]);
    }

    #[test]
    fn a_narrow_terminal_breaks_a_cell_and_a_pipe_does_not() {
        let long = "x".repeat(60);
        let columns = [Column::Left("NAME"), Column::Right("FILES")];
        assert_eq!(lines(columns, [row(&long, "1")], None).len(), 2);
        let fitted = lines(columns, [row(&long, "1")], Some(40));
        assert!(fitted.len() > 2 && fitted.iter().all(|line| line.len() <= 40), "{fitted:#?}");
    }

    #[test]
    fn no_rows_are_no_lines() {
        assert!(lines([Column::Left("NAME")], [], None).is_empty());
    }
}
