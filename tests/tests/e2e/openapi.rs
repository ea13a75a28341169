//! Holds answers against the OpenAPI document of the console.

use std::collections::BTreeSet;

use harness::tools;
use serde_json::Value;

/// `docs/console.openapi.yaml`.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn read() -> Self {
        Self(tools::yaml(&tools::workspace().join("docs/console.openapi.yaml")).unwrap().remove(0))
    }

    /// The paths that it describes.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.0["paths"].as_object().unwrap().keys().cloned().collect()
    }

    /// Asserts that an answer is as described: the one to a GET of this path, or a failure.
    pub(crate) fn assert_describes(&self, path: &str, status: u16, answer: &Value) {
        let responses = &self.0["paths"][path]["get"]["responses"];
        let (response, media_type) = match responses.get(status.to_string()) {
            Some(response) => (response, "application/json"),
            None => (&responses["default"], "application/problem+json"),
        };
        let schema = &self.resolved(response)["content"][media_type]["schema"];
        assert!(schema.is_object(), "{path} {status} is not described");
        self.check(schema, answer, path).unwrap_or_else(|problem| panic!("{problem}: {answer}"));
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        }
    }

    /// Checks a value against a schema, of which only the words that the document uses are known.
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let fitting = choices.iter().filter(|choice| self.check(choice, value, at).is_ok()).count();
            // The reason why the first one does not fit says most.
            return if fitting == 1 { Ok(()) } else { self.check(&choices[0], value, at) };
        }
        let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        if !types.iter().filter_map(Value::as_str).any(|name| is_of(name, value)) {
            return Err(format!("{at} is {value}, not {types:?}"));
        }
        if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
            return Err(format!("{at} is {value}"));
        }
        if schema["minimum"].as_i64().zip(value.as_i64()).is_some_and(|(least, value)| value < least) {
            return Err(format!("{at} is {value}"));
        }
        for (position, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}/{position}"))?;
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            value.get(name).ok_or_else(|| format!("{at}/{name} is missing"))?;
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            let known = schema["properties"].get(name).ok_or_else(|| format!("{at}/{name} is not described"))?;
            self.check(known, member, &format!("{at}/{name}"))?;
        }
        Ok(())
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}
