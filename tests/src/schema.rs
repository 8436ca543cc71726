//! The documents that `p2pctl --json` prints, held against their JSON Schemas in `ctl/schemas`.
//!
//! The schemas let later versions add fields and words, which readers have to pass over. The programs of this tree may
//! not print what their schemas do not name: here they are read strictly.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::binaries::workspace;

/// The types of documents that have a schema.
pub fn types() -> impl Iterator<Item = &'static str> {
    validators().keys().map(String::as_str)
}

/// Whether a document is one of its type, to the last field.
///
/// # Errors
/// What is wrong with it.
pub fn check(document: &Value) -> Result<(), String> {
    let kind = document["type"].as_str().ok_or("it has no type")?;
    let validator = validators().get(kind).ok_or_else(|| format!("ctl/schemas/{kind}.json is missing"))?;
    let faults: Vec<String> =
        validator.iter_errors(document).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("not as ctl/schemas/{kind}.json has it: {}", faults.join("; ")))
    }
}

fn validators() -> &'static BTreeMap<String, Validator> {
    static VALIDATORS: OnceLock<BTreeMap<String, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let folder = workspace().join("ctl/schemas");
        let files = std::fs::read_dir(&folder).expect("the schemas are part of the tree");
        let read = files.map(|file| {
            let path = file.expect("reads").path();
            let text = std::fs::read_to_string(&path).expect("reads");
            let schema: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let strict = jsonschema::options().should_validate_formats(true).build(&strict(schema));
            let validator = strict.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), validator)
        });
        read.collect()
    })
}

/// The same schema without room for what it does not name.
fn strict(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            if fields.get("type") == Some(&json!("string"))
                && let Some(words) = fields.remove("examples")
            {
                fields.insert("enum".to_owned(), words);
            }
            if let Some(Value::Array(forms)) = fields.get_mut("anyOf") {
                // What is for words of later versions.
                forms.retain(|form| form.pointer("/properties/event/not").is_none());
            }
            fields.values_mut().for_each(|field| *field = strict(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = strict(item.take())),
        _ => {}
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_held_against_the_schema_of_its_type_to_the_last_field() {
        let good = json!({ "schema": 1, "type": "user_created", "user": "alice" });
        assert_eq!(check(&good), Ok(()));
        let bad = [
            json!({ "schema": 1, "type": "user_created" }),
            json!({ "schema": 1, "type": "user_created", "user": null }),
            json!({ "schema": 1, "type": "user_created", "user": "alice", "more": 1 }),
            json!({ "schema": 2, "type": "user_created", "user": "alice" }),
            json!({ "schema": 1, "type": "nonsense" }),
            json!({ "schema": 1, "type": "error", "code": "odd", "message": "m", "hint": null, "exit_code": 1 }),
            json!({ "schema": 1, "type": "event", "at": "2026-11-20T23:23:20.000Z", "event": "odd" }),
            json!({ "schema": 1, "type": "event", "at": "yesterday", "event": "account", "user": null }),
        ];
        for document in bad {
            assert!(check(&document).is_err(), "{document}");
        }
    }

    #[test]
    fn readers_of_a_schema_pass_over_what_later_versions_add() {
        let text = std::fs::read_to_string(workspace().join("ctl/schemas/user_created.json")).expect("reads");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let later = json!({ "schema": 1, "type": "user_created", "user": "alice", "more": 1 });
        assert!(jsonschema::is_valid(&schema, &later));
    }
}
