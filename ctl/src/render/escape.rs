//! Text from others made harmless for a terminal, and words made ready for a shell.

pub use p2p_proto::escape::escape;

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
    fn a_word_with_spaces_or_quotes_is_quoted_for_the_shell() {
        for (word, typed) in [("a.txt", "a.txt"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("-x", "'-x'"), ("", "''")]
        {
            assert_eq!(shell_word(word), typed);
        }
    }
}
