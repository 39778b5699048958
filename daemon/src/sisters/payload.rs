//! What a task between sister nodes is fed with: a job's inputs, looked up, as JSON (`spec/federation-tasks.md`, Input).

use bots::{Task, TaskInput};
use nips::Audience;
use serde::{Deserialize, Serialize};

/// The input of a job that another node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// What to work on, in order.
    pub inputs: Vec<TaskInput>,
    /// The parameters.
    #[serde(default)]
    pub params: Vec<(String, String)>,
    /// The wanted MIME type.
    #[serde(default)]
    pub output: Option<String>,
}

impl Payload {
    /// As it travels.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what another node sent.
    ///
    /// # Errors
    /// In words for its owner.
    pub fn read(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| format!("the task's input cannot be read: {error}"))
    }

    /// The task for a worker.
    pub fn task(self, id: String, kind: u16, audience: Audience) -> Task {
        Task { id, kind, inputs: self.inputs, params: self.params, output: self.output, audience }
    }

    /// The words in it that a person may have written: what the conscience reads.
    pub fn words(&self) -> String {
        let texts = self.inputs.iter().filter_map(TaskInput::text);
        texts.chain(self.params.iter().map(|(_, value)| value.as_str())).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nonsense_is_not() {
        let payload = Payload {
            inputs: vec![TaskInput::Text("a".to_owned()), TaskInput::Url("https://example.org".to_owned())],
            params: vec![("lang".to_owned(), "de".to_owned())],
            output: Some("text/plain".to_owned()),
        };
        assert_eq!(Payload::read(&payload.to_json()).unwrap(), payload);
        assert_eq!(payload.words(), "a\nde");
        for bad in ["", "[]", "{}", r#"{"inputs":[{"file":"/etc/passwd"}]}"#] {
            assert!(Payload::read(bad).is_err(), "{bad}");
        }
    }
}
