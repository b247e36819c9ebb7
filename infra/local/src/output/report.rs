//! The output of the commands, in the form that the user chooses.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{plain, quoted};

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Json,
    Table,
    /// Values without names, separated by tabs.
    Tsv,
    /// `NAME='value'` lines for a shell.
    Env,
}

/// The result of a command. No `Debug`, because it may hold a token.
pub struct Report {
    /// The result in the form JSON.
    pub json: Value,
    /// The names of the columns, such as `user_id`.
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
    /// Whether there may be any number of rows. A list has no form `env`.
    pub is_list: bool,
}

/// A list has no form for shells.
#[derive(Debug, thiserror::Error)]
#[error("this command has no output for a shell; give -o json, -o table or -o tsv")]
pub struct FormError;

impl Report {
    /// A single result.
    #[must_use]
    pub fn single(json: Value, columns: &'static [&'static str], row: Vec<String>) -> Self {
        Self { json, columns, rows: vec![row], is_list: false }
    }

    /// A single object, with a value for each named member.
    #[must_use]
    pub fn object(json: Value, columns: &'static [&'static str]) -> Self {
        let row = cells(&json, columns);
        Self::single(json, columns, row)
    }

    /// A list of objects, with a column for each named member.
    #[must_use]
    pub fn list(json: Value, columns: &'static [&'static str]) -> Self {
        let rows = json.as_array().into_iter().flatten().map(|object| cells(object, columns)).collect();
        Self { json, columns, rows, is_list: true }
    }

    /// The text for standard output.
    ///
    /// # Errors
    /// [`FormError`] when a list is requested as variables.
    pub fn render(&self, form: Form) -> Result<Zeroizing<String>, FormError> {
        Ok(Zeroizing::new(match form {
            Form::Json => format!("{:#}\n", self.json),
            Form::Table if self.is_list => self.table(),
            Form::Table => self.lines(|name, value| format!("{name:<12}  {}", plain(value))),
            Form::Tsv => self.rows.iter().map(|row| row.join("\t") + "\n").collect(),
            Form::Env if self.is_list => return Err(FormError),
            Form::Env => self.lines(|name, value| format!("{}={}", name.to_uppercase(), quoted(value))),
        }))
    }

    /// A line for each value of a single result.
    fn lines(&self, line: impl Fn(&str, &str) -> String) -> String {
        let values = self.rows.iter().flat_map(|row| self.columns.iter().zip(row));
        values.map(|(name, value)| line(name, value) + "\n").collect()
    }

    fn table(&self) -> String {
        let header: Vec<String> = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|row| row.get(column)).map(String::len).max();
        let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in lines() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }
}

fn cells(object: &Value, columns: &[&str]) -> Vec<String> {
    let cell = |name: &&str| match object.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    columns.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_have_four_forms() {
        let row = vec!["8:acs:a".to_owned(), "it's".to_owned()];
        let report = Report::single(json!({"user_id": "8:acs:a"}), &["user_id", "token"], row);
        for (form, text) in [
            (Form::Json, "{\n  \"user_id\": \"8:acs:a\"\n}\n"),
            (Form::Table, "user_id       8:acs:a\ntoken         it's\n"),
            (Form::Tsv, "8:acs:a\tit's\n"),
            (Form::Env, "USER_ID='8:acs:a'\nTOKEN='it'\\''s'\n"),
        ] {
            assert_eq!(report.render(form).unwrap().as_str(), text, "{form:?}");
        }
    }

    #[test]
    fn lists_have_columns_and_no_form_for_shells() {
        let json = json!([{"id": "8:acs:a", "revision": 10}, {"id": "b", "revision": null}]);
        let report = Report::list(json, &["id", "revision"]);
        let table = "id       revision\n8:acs:a  10\nb        -\n";
        assert_eq!(report.render(Form::Table).unwrap().as_str(), table);
        assert_eq!(report.render(Form::Tsv).unwrap().as_str(), "8:acs:a\t10\nb\t-\n");
        assert!(report.render(Form::Env).is_err());
        let empty = Report::list(json!([]), &["id"]);
        assert_eq!(empty.render(Form::Json).unwrap().as_str(), "[]\n");
        assert_eq!(empty.render(Form::Table).unwrap().as_str(), "id\n");
    }
}
