//! Settings in a TOML file whose keys are the fields of a struct; what is wrong is told by file and line.

use std::fmt::{self, Display};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;

use p2p_proto::escape::shell_word;
use p2p_proto::private_folder;
use p2p_proto::reject::{ErrorCode, Reject};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use toml::de::DeTable;

/// Longest file read, in bytes: far more than every key with a page of comments.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A key is taken for a misspelling of a known one above this likeness, from 0 (nothing in common) to 1 (the same).
const LIKENESS_MIN: f64 = 0.6;

/// The settings of one program: a struct of `Option`s, `None` where the file does not have the key.
pub trait Settings: DeserializeOwned {
    /// Pairs of keys of which a file has one at the most.
    const EXCLUSIVE: &'static [[&'static str; 2]];
}

/// The settings that a file holds; `None` where there is no file.
///
/// # Errors
/// What is wrong with it: `file_unreadable`, or `usage` with the file's line.
pub fn read<T: Settings>(path: &Path) -> Result<Option<T>, Reject> {
    let shown = path.display();
    let unreadable =
        |error: &dyn Display| Reject::new(ErrorCode::FILE_UNREADABLE, format!("cannot read {shown}: {error}"));
    let mut text = String::new();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    if let Ok((metadata, _)) = &opened {
        refuse_others(path, metadata)?;
    }
    match opened.and_then(|(_, file)| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => {
            Err(unreadable(&format!("it is longer than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => parse(&text).map(Some).map_err(|Fault { line, what, hint }| {
            Reject::new(ErrorCode::USAGE, format!("{shown}: line {line}: {what}")).hint(hint)
        }),
    }
}

/// Refuses a file that somebody else could have put there or may change: its settings name files and programs.
fn refuse_others(path: &Path, metadata: &Metadata) -> Result<(), Reject> {
    let place = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
    place.map_or(Ok(None), |place| private_folder::check(&place))?;
    let open = metadata.mode() & 0o002 != 0 && !private_folder::all_are_trusted();
    if open || !private_folder::is_trusted(metadata.uid()) {
        let message = format!(
            "the settings in {} may be somebody else's (mode {:04o})",
            path.display(),
            metadata.mode() & 0o7777
        );
        return Err(Reject::new(ErrorCode::UNSAFE_FOLDER, message)
            .hint(format!("own the file, and `chmod o-w {}`", shell_word(&path.to_string_lossy()))));
    }
    Ok(())
}

/// What a person is told whose settings are right.
pub fn approval(path: &Path) -> String {
    match path.exists() {
        true => format!("{}: the settings are right", path.display()),
        false => format!("{}: there is no such file, and without it the settings are right", path.display()),
    }
}

/// What is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, from 1.
    pub line: usize,
    /// What.
    pub what: String,
    /// What to write instead; empty where that is plain.
    pub hint: String,
}

/// The settings that a text holds.
///
/// # Errors
/// The first fault.
pub fn parse<T: Settings>(text: &str) -> Result<T, Fault> {
    let line_at = |offset: usize| 1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
    let fault = |offset: usize, what: String| Fault { line: line_at(offset), what, hint: String::new() };
    let not_toml = |error: toml::de::Error| {
        // Of several lines only the first says what is wrong.
        let what = error.message().lines().next().unwrap_or_default().to_owned();
        fault(error.span().map_or(0, |span| span.start), what)
    };
    let table = DeTable::parse(text).map_err(not_toml)?;
    let known = keys::<T>();
    for key in table.get_ref().keys() {
        let name: &str = key.get_ref();
        if !known.contains(&name) {
            let hint = nearest(name, known).map_or_else(
                || format!("the keys are {}", known.join(", ")),
                |nearest| format!("did you mean `{nearest}`?"),
            );
            return Err(Fault { hint, ..fault(key.span().start, format!("there is no setting `{name}`")) });
        }
    }
    for [one, other] in T::EXCLUSIVE {
        let place = |name: &str| table.get_ref().keys().find(|key| key.get_ref() == name).map(|key| key.span().start);
        if let (Some(first), Some(second)) = (place(one), place(other)) {
            return Err(fault(first.max(second), format!("`{one}` and `{other}` exclude each other")));
        }
    }
    toml::from_str(text).map_err(not_toml)
}

/// The known key that somebody may have meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = known.iter().map(|key| (strsim::jaro_winkler(name, key), *key));
    likeness.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

/// The keys that settings have: the fields of their struct, in its order.
pub fn keys<T: Settings>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // It only looks which fields are asked for, and gives none.
    let _ = T::deserialize(FieldNames(&mut keys));
    keys
}

/// A deserializer that notes the fields of the struct that is asked of it.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only a struct has fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("its fields are noted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Reads a value of a file as it is read from a flag: from text, or a whole number without quotes.
///
/// # Errors
/// What the type says about text that is none of its values.
pub fn text<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
{
    deserializer.deserialize_any(Text(PhantomData)).map(Some)
}

/// The same for a list.
///
/// # Errors
/// As [`text`], of the first that is none.
pub fn texts<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: FromStr<Err: Display>,
{
    let texts: Vec<String> = de::Deserialize::deserialize(deserializer)?;
    let values = texts.iter().map(|text| text.parse().map_err(de::Error::custom));
    values.collect::<Result<_, _>>().map(Some)
}

struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// A commented sample of a program's settings, taken apart by its tests.
pub mod sample {
    /// One key of a sample.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Entry<'a> {
        /// Its name.
        pub key: &'a str,
        /// Its value, as TOML.
        pub value: &'a str,
        /// The comment above it.
        pub comment: String,
    }

    /// The keys of a sample, in its order: lines `#key = value`, each below its comment.
    pub fn entries(text: &str) -> Vec<Entry<'_>> {
        let mut entries = Vec::new();
        let mut comment = String::new();
        for line in text.lines() {
            let assignment = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            match assignment.and_then(|rest| rest.split_once(" = ")) {
                Some((key, value)) => entries.push(Entry { key, value, comment: std::mem::take(&mut comment) }),
                None if line.is_empty() => comment.clear(),
                None => comment.push_str(line.trim_start_matches("# ")),
            }
            comment.push('\n');
        }
        entries
    }

    /// What a key's comment says is its default, where it has one.
    pub fn stated_default<'a>(entry: &'a Entry<'_>) -> Option<&'a str> {
        let line = entry.comment.lines().find_map(|line| line.strip_prefix("Default: "))?;
        Some(line.split(". ").next().unwrap_or(line).trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Few {
        listen: Option<std::net::SocketAddr>,
        #[serde(deserialize_with = "text")]
        port: Option<u16>,
        #[serde(deserialize_with = "texts")]
        ports: Option<Vec<u16>>,
        name: Option<String>,
    }

    impl Settings for Few {
        const EXCLUSIVE: &'static [[&'static str; 2]] = &[["port", "ports"]];
    }

    fn refused(text: &str) -> (usize, String) {
        let fault = parse::<Few>(text).expect_err("it is wrong");
        (fault.line, format!("{} {}", fault.what, fault.hint))
    }

    #[test]
    fn keys_are_the_fields_and_values_are_as_on_a_command_line() {
        assert_eq!(keys::<Few>(), ["listen", "port", "ports", "name"]);
        assert_eq!(parse::<Few>("# nothing\n"), Ok(Few::default()));
        let few = parse::<Few>("listen = \"127.0.0.1:9\"\nport = 7 # seven\nname = 'n'\n").expect("right");
        assert_eq!((few.port, few.name.as_deref()), (Some(7), Some("n")));
        assert_eq!(parse::<Few>("port = \"7\"").expect("right").port, Some(7));
        assert_eq!(parse::<Few>("ports = [\"1\", \"2\"]").expect("right").ports, Some(vec![1, 2]));
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_the_nearest() {
        let (line, said) = refused("\n# listen\nlisten_on = 1\n");
        assert_eq!((line, said.as_str()), (3, "there is no setting `listen_on` did you mean `listen`?"));
        assert!(refused("prot = 1").1.ends_with("did you mean `port`?"));
        assert!(refused("xyzzy = 1").1.ends_with("the keys are listen, port, ports, name"));
        assert!(refused("[listen_on]\nname = 1").1.ends_with("did you mean `listen`?"), "a table is none either");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, word) in [
            ("name = 'a'\nport = 70000\n", 2, "too large"),
            ("\n\nlisten = \"nowhere\"", 3, "socket address"),
            ("name = 'a'\nname = 'b'", 2, "duplicate"),
            ("name = 'a'\n\nport = = 1", 3, ""),
            ("ports = [\"1\",\n \"x\"]", 1, "invalid digit"),
            ("port = 1\nname = 'a'\nports = []", 3, "exclude each other"),
            ("port = true", 1, "a text in quotes"),
        ] {
            let (found, said) = refused(text);
            assert_eq!(found, line, "{text}: {said}");
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_is_refused_by_its_path_and_none_is_no_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("few.toml");
        assert_eq!(read::<Few>(&path), Ok(None));
        std::fs::write(&path, "nmae = 1").expect("writes");
        let reject = read::<Few>(&path).expect_err("misspelled");
        assert_eq!(reject.code, ErrorCode::USAGE);
        assert_eq!(reject.message, format!("{}: line 1: there is no setting `nmae`", path.display()));
        std::fs::write(&path, "#".repeat(FILE_BYTES_MAX as usize + 1)).expect("writes");
        assert_eq!(read::<Few>(&path).expect_err("too long").code, ErrorCode::FILE_UNREADABLE);
        std::fs::write(&path, [0xff]).expect("writes");
        assert_eq!(read::<Few>(&path).expect_err("not text").code, ErrorCode::FILE_UNREADABLE);
    }
}
