//! Kind 5000, and what other workers use to turn inputs into text.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{OUTPUT_BYTES_MAX, Output, Task, TaskInput, WorkError, Worker, cut, html};
use crate::fetch::{FetchError, Fetcher, Kind, Page};

/// Pages that are parsed at the same time: parsing keeps a core busy, and cannot be stopped in the middle.
const PARSERS: usize = 2;

/// Turns the inputs of a task into text.
#[derive(Clone)]
pub(crate) struct Reader {
    fetcher: Fetcher,
    parsers: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher, parsers: Arc::new(Semaphore::new(PARSERS)) }
    }

    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// The text of all inputs, in order, a blank line between them. A single text comes back as it is.
    pub(crate) async fn read_all(&self, task: &Task, cancel: &CancellationToken) -> Result<String, WorkError> {
        let markdown = task.output.as_deref().is_some_and(|m| m.trim().eq_ignore_ascii_case("text/markdown"));
        let mut parts = Vec::with_capacity(task.inputs.len());
        for input in &task.inputs {
            parts.push(match input {
                TaskInput::Text(text) => text.clone(),
                TaskInput::Event(event) | TaskInput::Job(event) => event.content.clone(),
                TaskInput::Url(url) => cut(self.read_url(url, markdown, cancel).await?, OUTPUT_BYTES_MAX),
            });
        }
        Ok(parts.join("\n\n"))
    }

    /// The readable text of a page.
    pub(crate) async fn read_url(
        &self,
        url: &str,
        markdown: bool,
        cancel: &CancellationToken,
    ) -> Result<String, WorkError> {
        let work = async {
            let page = self.fetcher.get(url).await.map_err(|e| work_error(&e))?;
            self.parse(page, markdown).await
        };
        tokio::select! {
            () = cancel.cancelled() => Err(WorkError::Cancelled),
            text = work => text,
        }
    }

    async fn parse(&self, page: Page, markdown: bool) -> Result<String, WorkError> {
        let stopped = || WorkError::Failed("the page could not be read".to_owned());
        let permit = Arc::clone(&self.parsers).acquire_owned().await.map_err(|_| stopped())?;
        let parse = move || {
            let _permit = permit;
            match page.kind {
                Kind::Html => html::readable(&page.text, page.url.as_str(), markdown),
                Kind::Xml => html::stripped(&page.text),
                Kind::Json | Kind::Plain => page.text.trim().to_owned(),
            }
        };
        let text = tokio::task::spawn_blocking(parse).await.map_err(|_| stopped())?;
        if text.is_empty() { Err(WorkError::Failed("the page has no readable text".to_owned())) } else { Ok(text) }
    }
}

fn work_error(error: &FetchError) -> WorkError {
    let text = error.to_string();
    match error {
        FetchError::Refused(_) | FetchError::Port(_) | FetchError::Type(_) => WorkError::BadInput(text),
        FetchError::NoSuchName(_) | FetchError::Transport { .. } | FetchError::Status(_) | FetchError::BadRedirect => {
            WorkError::Failed(text)
        }
        FetchError::TooManyRedirects(_)
        | FetchError::Encoding(_)
        | FetchError::TooLarge(_)
        | FetchError::TimedOut(_) => WorkError::Failed(text),
    }
}

/// Kind 5000.
pub(super) struct ExtractWorker {
    pub(super) reader: Reader,
}

#[async_trait]
impl Worker for ExtractWorker {
    fn name(&self) -> &'static str {
        "extract"
    }

    async fn run(
        &self,
        task: &Task,
        _: &mpsc::Sender<String>,
        cancel: &CancellationToken,
    ) -> Result<Output, WorkError> {
        self.reader.read_all(task, cancel).await.map(Output::plain)
    }
}
