//! Text from others made harmless for a terminal, and words made ready for a shell.

/// `text` with every character that could steer a terminal, or turn a line's reading direction, shown as `\u{…}`:
/// C0 and C1 controls (ECMA-48), DEL, and the bidirectional controls (Unicode UAX #9).
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

fn steers(character: char) -> bool {
    let bidi = matches!(character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    bidi || character.is_control()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(escape("\u{1b}]0;x\u{7}\n"), r"\u{1b}]0;x\u{7}\u{a}");
        assert_eq!(escape("a\u{202e}b\u{2066}c\u{200f}d\u{61c}"), r"a\u{202e}b\u{2066}c\u{200f}d\u{61c}");
        assert_eq!(escape("\u{9b}31m\u{7f}\u{85}"), r"\u{9b}31m\u{7f}\u{85}");
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
    fn a_word_with_spaces_or_quotes_is_quoted_for_the_shell() {
        for (word, typed) in [("a.txt", "a.txt"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("-x", "'-x'"), ("", "''")]
        {
            assert_eq!(shell_word(word), typed);
        }
    }
}
