//! The line protocol of NVMe Lab's adapter guest-program in Rust, with a driver that has none: docs/guest-programs.md.
//!
//!     rustc -O -C target-feature=+crt-static -o driver harness.rs

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};

/// What the lab asks: an action, its arguments, and the bytes of a write.
pub struct Request {
    pub action: String,
    pub arguments: HashMap<String, String>,
    pub data: Vec<u8>,
}

impl Request {
    /// An argument as a number, in decimal; `missing` where it was not given.
    pub fn number(&self, key: &str, missing: u64) -> u64 {
        self.arguments.get(key).and_then(|text| text.parse().ok()).unwrap_or(missing)
    }
}

/// What the driver answers.
#[allow(dead_code)]
pub enum Answer {
    /// Success, with a JSON object of fields, "{}" for none.
    Fields(String),
    /// Success, with the bytes that were read.
    Data(Vec<u8>),
    /// A command ended with this status.
    Status { sct: u8, sc: u8 },
    /// It failed in the driver's own words; for a command that the driver gave up, too.
    Words(String),
    Unsupported,
}

/// Answers requests until there is none any more.
pub fn serve(mut handle: impl FnMut(&Request) -> Answer) -> io::Result<()> {
    let mut requests = io::stdin().lock();
    let mut answers = io::stdout().lock();
    let mut line = String::new();
    while requests.read_line(&mut line)? > 0 {
        let mut words = split(line.trim_end()).into_iter();
        let action = words.next().unwrap_or_default();
        let mut arguments: HashMap<String, String> =
            words.filter_map(|word| word.split_once('=').map(|(key, value)| (key.into(), value.into()))).collect();
        let bytes = arguments.remove("nbytes").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut data = vec![0; bytes];
        requests.read_exact(&mut data)?;
        let (head, found) = match handle(&Request { action, arguments, data }) {
            Answer::Fields(fields) => (format!(r#"{{"status": "success", "fields": {fields}}}"#), Vec::new()),
            Answer::Data(found) => (format!(r#"{{"status": "success", "bytes": {}}}"#, found.len()), found),
            Answer::Status { sct, sc } => (format!(r#"{{"status": {{"sct": {sct}, "sc": {sc}}}}}"#), Vec::new()),
            Answer::Words(words) => (format!(r#"{{"status": {{"words": {}}}}}"#, quoted(&words)), Vec::new()),
            Answer::Unsupported => (r#"{"status": "unsupported"}"#.into(), Vec::new()),
        };
        writeln!(answers, "{head}")?;
        answers.write_all(&found)?;
        answers.flush()?;
        line.clear();
    }
    Ok(())
}

/// Splits a line into words, as a shell does; what is in single or double quotes, or behind a backslash, is taken as it is.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), found) if open == found => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (_, found) => word.get_or_insert_default().push(found),
        }
    }
    words.extend(word);
    words
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|character| match character {
            '"' | '\\' => format!("\\{character}"),
            control if control < ' ' => format!("\\u{:04x}", control as u32),
            other => other.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

fn main() -> io::Result<()> {
    serve(|request| match request.action.as_str() {
        "load" => Answer::Words("put your driver here".into()),
        "ready" => Answer::Fields(r#"{"ready": false}"#.into()),
        "read" => {
            let bytes = request.number("blocks", 0) * request.number("block_size", 512);
            Answer::Words(format!("no driver reads these {bytes} bytes"))
        }
        _ => Answer::Unsupported,
    })
}
