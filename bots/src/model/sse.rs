//! Server-sent events, as far as model servers use them: the `data:` lines of a byte stream. Pure.

/// The longest line taken.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The line is longer than any should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineTooLong;

/// Cuts a byte stream into the payloads of its `data:` lines.
#[derive(Debug, Default)]
pub(crate) struct SseLines {
    buffer: Vec<u8>,
}

impl SseLines {
    /// Takes the next bytes; gives the payloads that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, LineTooLong> {
        self.buffer.extend_from_slice(bytes);
        let Some(end) = self.buffer.iter().rposition(|b| *b == b'\n' || *b == b'\r') else {
            return if self.buffer.len() > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(Vec::new()) };
        };
        let rest = self.buffer.split_off(end + 1);
        let complete = std::mem::replace(&mut self.buffer, rest);
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        Ok(payloads(&complete))
    }

    /// The payload of a last line without a line end.
    pub(crate) fn finish(self) -> Vec<String> {
        payloads(&self.buffer)
    }
}

fn payloads(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split(['\n', '\r'])
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|payload| payload.strip_prefix(' ').unwrap_or(payload).to_owned())
        .collect()
}

/// Takes a leading `<think>…</think>` out of streamed text: the private reasoning that some servers leave in the answer.
#[derive(Debug, Default)]
pub(crate) struct ThinkFilter {
    held: String,
    state: Thinking,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Thinking {
    #[default]
    Unknown,
    Inside,
    Done,
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

impl ThinkFilter {
    /// Takes the next piece; gives what of it is for the reader.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.state == Thinking::Done {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        if self.state == Thinking::Unknown {
            let start = self.held.trim_start();
            if start.starts_with(OPEN) {
                self.state = Thinking::Inside;
            } else if OPEN.starts_with(start) {
                return String::new();
            } else {
                self.state = Thinking::Done;
                return std::mem::take(&mut self.held);
            }
        }
        self.leave_thought()
    }

    fn leave_thought(&mut self) -> String {
        if let Some(at) = self.held.find(CLOSE) {
            self.state = Thinking::Done;
            let rest = self.held[at + CLOSE.len()..].trim_start().to_owned();
            self.held.clear();
            return rest;
        }
        // Only the tail can hold the start of the closing mark.
        let mut keep = self.held.len().saturating_sub(CLOSE.len());
        while !self.held.is_char_boundary(keep) {
            keep -= 1;
        }
        self.held.drain(..keep);
        String::new()
    }

    /// What was held back and turned out to be text.
    pub(crate) fn finish(self) -> String {
        if self.state == Thinking::Unknown { self.held } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn payloads_come_out_whatever_the_cuts() {
        let stream = "event: x\ndata: {\"a\":1}\r\n\r\n: comment\ndata:two\n\ndata: drei ü\n";
        for cut in 0..stream.len() {
            let mut lines = SseLines::default();
            let mut got = lines.push(&stream.as_bytes()[..cut]).unwrap();
            got.extend(lines.push(&stream.as_bytes()[cut..]).unwrap());
            got.extend(lines.finish());
            assert_eq!(got, ["{\"a\":1}", "two", "drei ü"]);
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = SseLines::default();
        let chunk = vec![b'x'; 400 * 1024];
        assert!((0..4).any(|_| lines.push(&chunk).is_err()));
    }

    proptest! {
        #[test]
        fn thoughts_are_left_out_whatever_the_cuts(cuts in proptest::collection::vec(0usize..40, 0..6)) {
            for (whole, want) in [("<think>hm ü </ x</think>\n\nHello", "Hello"), ("Hello <think>", "Hello <think>"), ("<thin", "<thin")] {
                let mut filter = ThinkFilter::default();
                let mut points: Vec<usize> = cuts.iter().copied().filter(|c| whole.is_char_boundary(*c) && *c <= whole.len()).collect();
                points.extend([0, whole.len()]);
                points.sort_unstable();
                let mut got: String = points.windows(2).map(|w| filter.push(&whole[w[0]..w[1]])).collect();
                got.push_str(&filter.finish());
                prop_assert_eq!(got.trim_start(), want);
            }
        }
    }
}
