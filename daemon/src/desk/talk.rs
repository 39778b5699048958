//! A message of a person: a command, or something to talk about; and what was said before.

use std::fmt::Write as _;
use std::sync::Arc;

use bots::conscience::Gentle;
use bots::talk::{Command, Means, help};
use bots::tools::{Tool, fenced};
use bots::{Output, Talk, Turn, WorkError};
use memory::{Entry, Selector};
use nips::Audience;
use tokio::sync::{mpsc, oneshot};

use super::Message;
use super::attach::Opened;
use super::order::{Attachment, Order, Work};
use super::people::OWNER;
use super::work::Bench;
use crate::condense::TALK_MS;
use crate::journal::now_ms;
use crate::skills::Skills;
use crate::toolbox::{newest_jobs, sister_nodes};

/// Turns that are looked at.
const TURNS: u32 = 24;
/// How a memory is named in a list: as much of its id as people will type.
const SHORT_ID: usize = 8;
/// Memories that are listed, and searched for the one with a short id.
const LISTED: usize = 8;

impl Bench {
    /// A message: a command, or something to talk about.
    pub(super) async fn message(
        &self,
        text: &str,
        file: Option<&Attachment>,
        progress: &mpsc::Sender<String>,
    ) -> Result<Output, WorkError> {
        let read = match file {
            None => None,
            Some(file) => match self.opened(text, file).await {
                Opened::Read(file) => Some(file),
                Opened::Unread(why) => return Ok(Output::plain(why)),
                Opened::Crisis(crisis) => return Ok(self.met(&crisis).await),
            },
        };
        // What is spoken is said; what a file holds is shown.
        let (spoken, shown): (Option<&str>, Option<String>) = match &read {
            Some(file) if file.is_voice => (file.content.as_deref(), None),
            Some(file) => (None, file.content.as_deref().map(|content| fenced(&file.name, content))),
            None => (None, None),
        };
        let text = spoken.unwrap_or(text);
        let (key, tools, system) = (self.order.id.to_string(), self.person_tools(), self.system(text).await);
        let talk = Talk { attached: shown.as_deref(), ..self.talk_of(text, &system, &tools, &key) };
        let is_open = |command: &Command| talk.audience.is_known() || matches!(command, Command::Link(_));
        match Command::parse(text).filter(is_open) {
            Some(command) => self.command(command, &talk, progress).await,
            None => {
                let history = self.history().await;
                self.talk(Talk { history: &history, ..talk }, progress).await
            }
        }
    }

    pub(super) fn talk_of<'a>(
        &'a self,
        text: &'a str,
        system: &'a str,
        tools: &'a [Arc<dyn Tool>],
        key: &'a str,
    ) -> Talk<'a> {
        let memories = Some(self.tools.memories.as_ref());
        let audience = self.order.audience;
        Talk { text, audience, system, memories, history: &[], key, tools, attached: None, approved: None }
    }

    /// What was said before, oldest first. A journal that does not answer keeps nobody from an answer.
    pub(super) async fn history(&self) -> Vec<Turn> {
        let Some(person) = self.order.person() else { return vec![] };
        let found = self.tools.journal.turns(person, self.order.id, TALK_MS, TURNS).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "what was said before cannot be read");
            vec![]
        })
    }

    /// The soul; for a day after a person was met in a crisis that the talk stays gentle; and the skill that fits what is said.
    pub(super) async fn system(&self, said: &str) -> String {
        let mut parts = vec![self.tools.soul.text().to_owned()];
        if let Some(person) = self.order.person() {
            parts.extend(Gentle::new(self.last_crisis(&person).await).prompt(now_ms() / 1000).map(ToOwned::to_owned));
            if let Some(skills) = self.tools.toolbox.skills.as_ref().filter(|_| !said.trim().is_empty()) {
                parts.extend(skills.fitting(said).await);
            }
        }
        parts.join("\n\n")
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
    pub(super) async fn command(
        &self,
        command: Command,
        talk: &Talk<'_>,
        progress: &mpsc::Sender<String>,
    ) -> Result<Output, WorkError> {
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
            Command::Jobs => newest_jobs(&self.tools.journal).await.map_err(WorkError::Failed)?,
            Command::Peers => match &self.tools.sisters {
                Some(sisters) => sister_nodes(sisters).await.map_err(WorkError::Failed)?,
                None => "The federation is switched off.".to_owned(),
            },
            Command::Models => self.models(),
            Command::Tools => self.list_tools(talk.tools),
            Command::Link(what) => self.link(&what).await?,
            Command::Unlink(mxid) => self.unlink(&mxid).await?,
            Command::Approve(code) => return self.approve(&code, Means::Word, talk, progress).await,
            Command::Deny(code) => self.deny(&code, Means::Word).await?,
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

    fn list_tools(&self, tools: &[Arc<dyn Tool>]) -> String {
        let line = |tool: &Arc<dyn Tool>| {
            let offer = tool.card().offer;
            let first = offer.description.lines().next().unwrap_or_default().to_owned();
            format!("- `{}`: {first}", offer.name)
        };
        let mut text = format!("I can use these for you:\n\n{}", tools.iter().map(line).collect::<Vec<_>>().join("\n"));
        if self.order.audience == Audience::Owner {
            for away in self.tools.toolbox.servers.iter().map(|server| server.state()) {
                if let Some(why) = away.error {
                    let _ = write!(text, "\n- `{}` is away: {why}", away.name);
                }
            }
        }
        if let Some(names) = self.tools.toolbox.skills.as_ref().map(Skills::names).filter(|names| !names.is_empty()) {
            let _ = write!(text, "\n\nSkills: {}.", names.join(", "));
        }
        text
    }

    /// What a model may do for this person.
    pub(super) fn person_tools(&self) -> Vec<Arc<dyn Tool>> {
        self.tools.toolbox.toolbox.for_person(self.order.audience)
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
            (Work::Talk { .. } | Work::Mark { .. }, Audience::Owner) => Some(OWNER.to_owned()),
            (Work::Talk { .. } | Work::Mark { .. }, Audience::Person(key)) => Some(key.to_hex()),
            _ => None,
        }
    }
}
