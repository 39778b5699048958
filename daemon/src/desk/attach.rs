//! What people send with their words: fetched, opened, and read where it has text; what is spoken is written down.

use std::time::Duration;

use bots::conscience::Crisis;
use bots::document::DocumentKind;
use bots::files::{FILE_BYTES_MAX, FileError, open_sealed, picture_type, text_of};
use bots::look::look;

use super::order::{Attachment, FilePlace, Order, Work};
use super::work::Bench;
use crate::document;

/// How long the homeserver may take to give a file.
const FETCH: Duration = Duration::from_secs(60);

/// What became of a file.
pub(super) enum Opened {
    /// Its text, or what was said.
    Read(Attachment),
    /// It holds a cry for help.
    Crisis(Crisis),
    /// Why it was not read, for the person.
    Unread(String),
}

impl Bench {
    /// Reads a file once; what it says is part of the talk from then on.
    pub(super) async fn opened(&self, text: &str, file: &Attachment) -> Opened {
        if file.content.is_some() {
            return Opened::Read(file.clone());
        }
        let content = match self.read(text, file).await {
            Ok(content) => content,
            Err(why) => return Opened::Unread(why),
        };
        if let Some(crisis) = self.tools.conscience.check(&content) {
            return Opened::Crisis(crisis);
        }
        let file = Attachment { content: Some(content), ..file.clone() };
        let work = Work::Talk { text: text.to_owned(), file: Some(Box::new(file.clone())) };
        let order = Order { work, ..self.order.as_ref().clone() };
        if let Err(error) = self.tools.journal.rewrite_order(&order).await {
            tracing::warn!(%error, "what a file says is not written down; it is not known in the next turn");
        }
        Opened::Read(file)
    }

    async fn read(&self, said: &str, file: &Attachment) -> Result<String, String> {
        let name = if file.name.is_empty() { "the file" } else { &file.name };
        if file.is_voice && self.tools.voice.is_none() {
            return Err(
                "I cannot hear voice messages: my owner has not given me a speech server. Please write it to me."
                    .to_owned(),
            );
        }
        let unread = |error: FileError| format!("I got `{name}`, but I cannot read it: {error}.");
        let bytes = self.bytes(file).await.map_err(unread)?;
        if let (true, Some(voice)) = (file.is_voice, &self.tools.voice) {
            let mime = file.mime.as_deref().unwrap_or("audio/ogg");
            let sound_name = if name.contains('.') { name } else { "voice.ogg" };
            let heard = voice.hear(&bytes, sound_name, mime).await;
            return heard.map_err(|error| format!("I could not hear that: {error}. Please write it to me."));
        }
        if let Some(mime) = picture_type(&bytes) {
            let (chain, audience) = (self.tools.workshop.chain(), self.order.audience);
            let seen = look(chain, bytes, mime, said, audience, &self.cancel).await;
            return seen.map_err(|error| format!("I got the picture `{name}`, but I cannot see it: {error}."));
        }
        if let Some(kind) = DocumentKind::of(&bytes) {
            return document::read(bytes, kind).await.map_err(unread);
        }
        let (own, mime) = (file.name.clone(), file.mime.clone());
        let text = tokio::task::spawn_blocking(move || text_of(&bytes, &own, mime.as_deref())).await;
        text.map_err(|error| error.to_string())?.map_err(unread)
    }

    async fn bytes(&self, file: &Attachment) -> Result<Vec<u8>, FileError> {
        match &file.place {
            FilePlace::Nostr(sealed) => {
                let bytes =
                    self.tools.workshop.download(&sealed.url, FILE_BYTES_MAX).await.map_err(FileError::Fetch)?;
                open_sealed(sealed, &bytes)
            }
            FilePlace::Matrix(source) => {
                let away = || FileError::Fetch("the homeserver does not answer".to_owned());
                let matrix = self.tools.matrix.as_ref().ok_or_else(away)?;
                let bytes = tokio::time::timeout(FETCH, matrix.download(source)).await.map_err(|_| away())?;
                let bytes = bytes.map_err(FileError::Fetch)?;
                if bytes.len() > FILE_BYTES_MAX { Err(FileError::TooLarge) } else { Ok(bytes) }
            }
        }
    }
}
