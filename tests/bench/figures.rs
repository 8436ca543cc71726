//! All runs of everything that was measured, as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::meter::Run;
use crate::{Common, Outcome};

/// A name and what one run of it is.
pub type Program<'a> = (String, Box<dyn FnMut() -> Outcome<Run> + 'a>);

/// What is measured in turn, run by run.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// What was done.
    pub what: String,
    /// Bytes that each downloader received.
    pub bytes: u64,
    /// The machine's load average over a minute before and after.
    pub load: [Option<f64>; 2],
    /// The first is what the others are compared with.
    pub series: Vec<Series>,
}

/// Every run of one program.
#[derive(Debug, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// In the order in which they were taken; run `n` of every series belongs to one turn.
    pub runs: Vec<Run>,
}

/// The middle of several figures, with its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of no figures at all.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Some(Spread { least, median, most })
    }
}

impl Figures {
    /// Measures everything in `programs` in turn: once unseen, then `runs` times, every other turn backwards.
    pub fn take(what: String, bytes: u64, runs: u32, programs: &mut [Program<'_>]) -> Outcome<Figures> {
        let before = load();
        let mut series: Vec<Series> =
            programs.iter().map(|(name, _)| Series { name: name.clone(), runs: Vec::new() }).collect();
        for turn in 0..=runs {
            let mut order: Vec<usize> = (0..programs.len()).collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let (name, measure) = &mut programs[index];
                let run = measure().map_err(|error| format!("{name}: {error}"))?;
                let counted = if turn == 0 { "warm-up" } else { "run" };
                eprintln!(
                    "{counted} {turn} {name}: {:.3} s, CPU {:.2} + {:.2} s, others' {:.2} s",
                    run.wall_s,
                    run.seeders.processor_s,
                    run.downloaders.processor_s,
                    run.others_processor_s.unwrap_or_default(),
                );
                if turn > 0 {
                    series[index].runs.push(run);
                }
            }
        }
        Ok(Figures { what, bytes, load: [before, load()], series })
    }

    /// Prints the table, and writes the JSON where it is wanted.
    pub fn report(&self, common: &Common) -> Outcome<()> {
        let load = self.load.map(|load| load.map_or("?".to_owned(), |load| format!("{load:.1}")));
        println!("{}; load average {} before, {} after; medians (least–most)", self.what, load[0], load[1]);
        println!("{}", self.table());
        common.write_json(self)
    }

    fn table(&self) -> Table {
        let baseline = self.series.first().map_or("", |series| series.name.as_str());
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            String::new(),
            "wall s".to_owned(),
            "MiB/s".to_owned(),
            format!("× {baseline}"),
            "CPU s seeder".to_owned(),
            "downloader".to_owned(),
            "both".to_owned(),
            format!("× {baseline}"),
            "peak MiB".to_owned(),
            "others' CPU s".to_owned(),
        ]);
        for series in &self.series {
            table.add_row(self.row(series));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn row(&self, series: &Series) -> Vec<String> {
        let runs = &series.runs;
        let spread = |figure: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(figure));
        let middle = |figure: &dyn Fn(&Run) -> f64, digits: usize| {
            spread(figure).map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
        };
        let wide = |spread: Option<Spread>, digits: usize| {
            spread.map_or(String::new(), |Spread { least, median, most }| {
                format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
            })
        };
        // Turn by turn, so that what slows down the machine slows down both.
        let ratio = |figure: &dyn Fn(&Run) -> f64| {
            let baseline = self.series.first().map_or(&[][..], |series| &series.runs);
            Spread::of(runs.iter().zip(baseline).map(|(run, limit)| figure(run) / figure(limit)))
        };
        let mib = self.bytes as f64 / f64::from(1 << 20);
        vec![
            series.name.clone(),
            wide(spread(&|run| run.wall_s), 2),
            middle(&|run| mib / run.wall_s, 0),
            wide(ratio(&|run| run.wall_s), 2),
            middle(&|run| run.seeders.processor_s, 2),
            middle(&|run| run.downloaders.processor_s, 2),
            middle(&Run::processor_s, 2),
            wide(ratio(&Run::processor_s), 2),
            format!("{} / {}", middle(&|run| run.seeders.peak_mib, 0), middle(&|run| run.downloaders.peak_mib, 0)),
            middle(&|run| run.others_processor_s.unwrap_or_default(), 2),
        ]
    }
}

/// How many programs wanted a processor over the last minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_of_two_the_mean() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 9.0]), Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
        assert_eq!(spread(&[4.0, 2.0]), Some(Spread { least: 2.0, median: 3.0, most: 4.0 }));
        assert_eq!(spread(&[]), None);
    }
}
