//! Kind 5001: a summary, by a model when one serves this audience, else extractive.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::extract::Reader;
use super::generate::{complete, delimited};
use super::rank::{Length, summarise};
use super::{Output, Task, WorkError, Worker};
use crate::model::{Chain, ChainError, ChatRequest};

const SYSTEM: &str = "You summarise texts. Give the summary alone, in the language of the text, in plain sentences, and add \
    nothing that the text does not say.";

/// Kind 5001.
pub(super) struct SummaryWorker {
    pub(super) chain: Arc<Chain>,
    pub(super) reader: Reader,
}

#[async_trait]
impl Worker for SummaryWorker {
    fn name(&self) -> &'static str {
        "summary"
    }

    async fn run(
        &self,
        task: &Task,
        progress: &mpsc::Sender<String>,
        cancel: &CancellationToken,
    ) -> Result<Output, WorkError> {
        let text = self.reader.read_all(task, cancel).await?;
        let length = Length::parse(task.param("length"));
        if self.chain.can_serve(task.audience) {
            let system = format!("{SYSTEM} Use {}.", length.describe());
            let request = ChatRequest::new(&system, &delimited(task, &text));
            match complete(&self.chain, &request, task.audience, progress, cancel).await {
                Ok(done) => {
                    return Ok(Output::written(done.text, done.model_name));
                }
                Err(ChainError::Cancelled) => return Err(WorkError::Cancelled),
                Err(error) => tracing::debug!(%error, "summary falls back to extraction"),
            }
        }
        let work = tokio::task::spawn_blocking(move || summarise(&text, length));
        tokio::select! {
            () = cancel.cancelled() => Err(WorkError::Cancelled),
            summary = work => summary.map(Output::plain).map_err(|_| WorkError::Failed("the summary could not be made".to_owned())),
        }
    }
}
