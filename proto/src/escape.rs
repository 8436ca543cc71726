//! Text from others made harmless: for a terminal, for a shell, and for a log that has one line an event.

use std::io::{self, Write};

/// `text` with every character that could steer a terminal, turn a line's reading direction, break it, or hide in it, shown
/// as `\u{…}`: C0 and C1 controls (ECMA-48), DEL, the bidirectional controls (Unicode UAX #9), separators of lines, and what
/// is drawn as nothing. Joiners and variation selectors stay: scripts and emoji are made of them.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Whether a character shapes its neighbours and is nothing by itself: joiners, variation selectors.
pub fn shapes(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether a character is drawn as nothing, or as space that no eye tells from none (Default_Ignorable_Code_Point in
/// Unicode's DerivedCoreProperties, without [`shapes`]), or ends a line where a name is expected to be one.
fn hides(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'
        | '\u{2028}'..='\u{2029}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Whether [`escape`] shows it in another way.
pub fn steers(character: char) -> bool {
    let bidi = matches!(character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    bidi || hides(character) || character.is_control()
}

/// The same for the text of a JSON document, in JSON's own escapes: what it says stays the same.
pub fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            let units =
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            escaped.push_str(&units);
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// `word` as it is typed at a shell's prompt: in quotes where it needs them.
pub fn shell_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+/:@%,".contains(&byte) || !byte.is_ascii();
    if !word.is_empty() && word.bytes().all(plain) && !word.starts_with('-') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Writes whole lines, each with one call, as logs do, and escapes what is in them: nobody outside can steer the terminal
/// that a log is read at, or write a line of it.
#[derive(Debug)]
pub struct HarmlessLines<W>(pub W);

impl<W: Write> Write for HarmlessLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_line(&mut self.0, bytes, escape)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The same for lines that are JSON documents.
#[derive(Debug)]
pub struct HarmlessJsonLines<W>(pub W);

impl<W: Write> Write for HarmlessJsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_line(&mut self.0, bytes, escape_json)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn write_line(into: &mut impl Write, bytes: &[u8], escape: fn(&str) -> String) -> io::Result<usize> {
    let text = String::from_utf8_lossy(bytes);
    let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
    into.write_all((escape(line) + end).as_bytes())?;
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(escape("\u{1b}]0;x\u{7}\n"), r"\u{1b}]0;x\u{7}\u{a}");
        assert_eq!(escape("a\u{202e}b\u{2066}c\u{200f}d\u{61c}"), r"a\u{202e}b\u{2066}c\u{200f}d\u{61c}");
        assert_eq!(escape("\u{9b}31m\u{7f}\u{85}"), r"\u{9b}31m\u{7f}\u{85}");
        assert_eq!(escape("bob\u{200b}\u{feff}\u{2028}"), r"bob\u{200b}\u{feff}\u{2028}");
        for code in (0..0x20).chain(0x7f..0xa0) {
            let text = char::from(code as u8).to_string();
            assert!(!escape(&text).contains(&text), "{code:x}");
        }
    }

    #[test]
    fn letters_of_every_script_stay_and_twice_is_once() {
        for text in ["naïve café.txt", "写真.zip", "שלום", "👩‍🚀", "a\\u{1b}"] {
            assert_eq!(escape(text), text);
        }
        assert_eq!(escape(&escape("\u{1b}[m")), escape("\u{1b}[m"));
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut log = HarmlessLines(Vec::new());
        log.write_all("INFO said \u{1b}[31m\nERROR forged\n".as_bytes()).expect("memory");
        log.write_all(b"INFO next\n").expect("memory");
        assert_eq!(String::from_utf8_lossy(&log.0), "INFO said \\u{1b}[31m\\u{a}ERROR forged\nINFO next\n");
    }
    #[test]
    fn an_event_in_json_says_the_same_escaped() {
        let mut log = HarmlessJsonLines(Vec::new());
        log.write_all("{\"name\":\"a\u{202e}\u{e0001}é\"}\n".as_bytes()).expect("memory");
        assert_eq!(String::from_utf8_lossy(&log.0), "{\"name\":\"a\\u202e\\udb40\\udc01é\"}\n");
    }

    #[test]
    fn a_word_with_spaces_or_quotes_is_quoted_for_the_shell() {
        for (word, typed) in [("a.txt", "a.txt"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("-x", "'-x'"), ("", "''")]
        {
            assert_eq!(shell_word(word), typed);
        }
    }
}
