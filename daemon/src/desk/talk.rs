//! A talk beside its newest message: what was said before, and commands.

use std::fmt::Write as _;

use bots::conscience::Gentle;
use bots::talk::{Command, help};
use bots::{Output, Talk, Turn, WorkError};
use memory::{Entry, Selector};
use nips::Audience;
use tokio::sync::oneshot;

use super::Message;
use super::order::{Order, Work};
use super::work::Bench;
use crate::journal::now_ms;

/// Turns that are looked at.
const TURNS: u32 = 24;
/// What was said longer ago is no longer the same talk, ms.
const TALK_MS: u64 = 24 * 3600 * 1000;
/// Jobs that are listed.
const JOBS: u32 = 10;
/// How a memory is named in a list: as much of its id as people will type.
const SHORT_ID: usize = 8;
/// Memories that are listed, and searched for the one with a short id.
const LISTED: usize = 8;

impl Bench {
    /// What was said before, oldest first. A journal that does not answer keeps nobody from an answer.
    pub(super) async fn history(&self) -> Vec<Turn> {
        let Some(person) = self.order.person() else { return vec![] };
        let found = self.tools.journal.turns(person, self.order.id, TALK_MS, TURNS).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "what was said before cannot be read");
            vec![]
        })
    }

    /// The soul; and for a day after a person was met in a crisis that the talk stays gentle.
    pub(super) async fn system(&self) -> String {
        let soul = self.tools.soul.text();
        let gentle = match self.order.person() {
            Some(person) => Gentle::new(self.last_crisis(&person).await).prompt(now_ms() / 1000),
            None => None,
        };
        gentle.map_or_else(|| soul.to_owned(), |gentle| format!("{soul}\n\n{gentle}"))
    }

    async fn last_crisis(&self, person: &str) -> Option<u64> {
        let found = self.tools.journal.meta(&crisis_key(person)).await.ok().flatten();
        found.and_then(|at| at.parse().ok())
    }

    /// Remembers when this person was met in a crisis, and nothing else of it.
    pub(super) async fn note_crisis(&self) {
        let Some(person) = self.order.person() else { return };
        let mut gentle = Gentle::new(self.last_crisis(&person).await);
        gentle.met(now_ms() / 1000);
        let at = gentle.last_crisis().unwrap_or_default().to_string();
        if let Err(error) = self.tools.journal.set_meta(&crisis_key(&person), at).await {
            tracing::warn!(%error, "that a talk is to stay gentle was not written down");
        }
    }

    /// Does what a command says.
    pub(super) async fn command(&self, command: Command, talk: &Talk<'_>) -> Result<Output, WorkError> {
        let audience = self.order.audience;
        if command.is_owners() && audience != Audience::Owner {
            return Ok(Output::plain("That is for my owner alone.".to_owned()));
        }
        let said = match command {
            Command::Help => help(),
            Command::Status => self.status().await,
            Command::Remember(what) => {
                let id = self.tools.memories.remember(&what, audience, talk.key).await.map_err(WorkError::Failed)?;
                return Ok(Output { memories: vec![id], ..Output::plain(format!("I will remember that: {what}")) });
            }
            Command::Recall(what) => return self.recalled(&what).await,
            Command::Forget(id) => self.forget(&id).await?,
            Command::Jobs => self.jobs().await?,
            Command::Peers => self.peers().await,
            Command::Models => self.models(),
            Command::Stop => self.stop().await?,
            Command::Unknown(name) => format!("There is no `!{name}`. `!help` lists what there is."),
            Command::Incomplete(usage) => format!("It goes like this: `{usage}`"),
        };
        Ok(Output::plain(said))
    }

    async fn recalled(&self, what: &str) -> Result<Output, WorkError> {
        let found = self.tools.memories.recall(what, self.order.audience, LISTED).await.map_err(WorkError::Failed)?;
        if found.is_empty() {
            return Ok(Output::plain("I remember nothing of that.".to_owned()));
        }
        let mut text = String::from("This is what I remember:\n");
        for one in &found {
            let _ = write!(text, "\n- {} ({}, `{}`)", one.text, one.day, short(&one.id));
        }
        Ok(Output { memories: found.into_iter().map(|one| one.id).collect(), ..Output::plain(text) })
    }

    /// People forget what is theirs; the owner anything. The words leave the journal too, and are not repeated here.
    async fn forget(&self, id: &str) -> Result<String, WorkError> {
        let is_theirs = |entry: &Entry| match self.order.audience {
            Audience::Owner => true,
            Audience::Person(person) => entry.person == Some(person),
            Audience::Member | Audience::Stranger => false,
        };
        let id = id.trim_matches('`');
        let Some(entry) = self.tools.memory.find(id).await.ok().filter(is_theirs) else {
            return Ok(format!("I have no memory `{id}`, or several whose ids begin so. `!recall` shows the ids."));
        };
        let failed = |error: &dyn std::fmt::Display| WorkError::Failed(error.to_string());
        self.tools.journal.blank([entry.text.trim().to_owned()].into()).await.map_err(|e| failed(&e))?;
        self.tools.memory.forget(Selector::Id(entry.id)).await.map_err(|e| failed(&e))?;
        Ok("Forgotten.".to_owned())
    }

    async fn status(&self) -> String {
        let tools = &self.tools;
        let models = tools.workshop.chain().states();
        let well = models.iter().filter(|model| model.reachable != Some(false)).count();
        let mut text = format!("I am {}, and I am up.", tools.facts.name);
        if self.order.audience == Audience::Owner {
            let _ = write!(text, "\n\n- models: {well} of {} answer", models.len());
            if let Ok(stats) = tools.memory.stats().await {
                let _ = write!(text, "\n- memory: {} entries", stats.entries);
            }
            let _ = write!(text, "\n- jobs running: {}", tools.metrics.running());
            if let Some(sisters) = &tools.sisters {
                let _ = write!(text, "\n- sister nodes known: {}", sisters.view().members().len());
            }
        }
        text
    }

    async fn jobs(&self) -> Result<String, WorkError> {
        let rows = self.tools.journal.jobs(JOBS).await.map_err(|e| WorkError::Failed(e.to_string()))?;
        let mut text = String::from("The newest jobs:\n");
        for row in rows {
            let id: String = row.id.to_string().chars().take(SHORT_ID).collect();
            let _ = write!(text, "\n- `{id}` kind {}: {}", row.kind, row.state);
        }
        Ok(text)
    }

    async fn peers(&self) -> String {
        let Some(sisters) = &self.tools.sisters else { return "The federation is switched off.".to_owned() };
        let Ok(peers) = sisters.federation.peers().await else { return "The federation does not answer.".to_owned() };
        let members = peers.iter().filter(|peer| peer.passport.is_some());
        let line = |peer: &federation::Peer| {
            let npub = peer.passport.and_then(|key| nostr::ToBech32::to_bech32(&key).ok()).unwrap_or_default();
            let state = match peer.state {
                federation::PeerState::Member => "here",
                federation::PeerState::Lost => "away",
                federation::PeerState::Seen => "seen",
            };
            format!("- {npub}: {state}")
        };
        let lines: Vec<String> = members.map(line).collect();
        if lines.is_empty() { "I have no sister nodes yet.".to_owned() } else { lines.join("\n") }
    }

    fn models(&self) -> String {
        let line = |model: bots::model::ModelHealth| {
            let state = match model.reachable {
                Some(true) => "answers",
                Some(false) => "does not answer",
                None => "not asked yet",
            };
            format!("- {}: {state}", model.name)
        };
        let states = self.tools.workshop.chain().states();
        let lines: Vec<String> = states.into_iter().map(line).collect();
        if lines.is_empty() {
            return "I have no language model; I answer out of my memory.".to_owned();
        }
        format!("In this order:\n\n{}\n\nIf none answers, I answer out of my memory.", lines.join("\n"))
    }

    /// Ends what this person waits for.
    async fn stop(&self) -> Result<String, WorkError> {
        let (reply, stopped) = oneshot::channel();
        let asked = Message::Stop { person: self.order.person(), but: self.order.id, reply };
        if !self.handle.send(asked).await {
            return Err(WorkError::Cancelled);
        }
        Ok(match stopped.await.unwrap_or_default() {
            0 => "I was not answering anything.".to_owned(),
            1 => "Stopped.".to_owned(),
            count => format!("Stopped: {count} answers."),
        })
    }
}

fn crisis_key(person: &str) -> String {
    format!("crisis:{person}")
}

fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

impl Order {
    /// Whose talk it is, across doors: the owner is one person, whichever way they write.
    pub fn person(&self) -> Option<String> {
        match (&self.work, self.audience) {
            (Work::Talk { .. }, Audience::Owner) => Some("owner".to_owned()),
            (Work::Talk { .. }, Audience::Person(key)) => Some(key.to_hex()),
            _ => None,
        }
    }
}
