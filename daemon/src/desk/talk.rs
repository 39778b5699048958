//! A talk beside its newest message: what was said before, and commands.

use std::fmt::Write as _;
use std::sync::Arc;

use bots::conscience::Gentle;
use bots::talk::{Approval, Command, Means, Refusal, code, help};
use bots::tools::{Caller, Tool, ToolError, carry_out, fenced};
use bots::{Approved, Output, Talk, Turn, WorkError};
use memory::{Entry, Selector};
use nips::Audience;
use tokio::sync::{mpsc, oneshot};

use super::Message;
use super::links::{Account, Linked};
use super::order::{Order, Origin, Work};
use super::work::Bench;
use crate::journal::{Answer, now_ms};
use crate::skills::Skills;
use crate::toolbox::peer;

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
            Command::Jobs => self.jobs().await?,
            Command::Peers => self.peers().await,
            Command::Models => self.models(),
            Command::Tools => self.list_tools(talk.tools),
            Command::Link(what) => self.link(&what).await?,
            Command::Unlink(mxid) => self.unlink(&mxid).await?,
            Command::Approve(code) => return self.approve(&code, Means::Word, talk, progress).await,
            Command::Deny(code) => match self.answer(&code, false, Means::Word).await? {
                Ok(_) => "Then I leave it.".to_owned(),
                Err(refusal) => refusal.to_string(),
            },
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
        let lines: Vec<String> = peers.iter().filter_map(peer).collect();
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

    fn list_tools(&self, tools: &[Arc<dyn Tool>]) -> String {
        let line = |tool: &Arc<dyn Tool>| {
            let offer = tool.offer();
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

    async fn answer(&self, code: &str, yes: bool, means: Means) -> Result<Result<Approval, Refusal>, WorkError> {
        let Some(person) = self.order.person() else { return Ok(Err(Refusal::Unknown)) };
        let code = code.trim_matches('`').to_uppercase();
        let answer = Answer { code, yes, person, order: self.order.id.to_string(), means };
        self.tools.journal.answer_proposal(answer).await.map_err(|e| WorkError::Failed(e.to_string()))
    }

    /// Makes a call that was proposed, once, and lets a model say what came of it.
    pub(super) async fn approve(
        &self,
        code: &str,
        means: Means,
        talk: &Talk<'_>,
        progress: &mpsc::Sender<String>,
    ) -> Result<Output, WorkError> {
        let approval = match self.answer(code, true, means).await? {
            Ok(approval) => approval,
            Err(refusal) => return Ok(Output::plain(refusal.to_string())),
        };
        let Some(tool) = talk.tools.iter().find(|tool| tool.offer().name == approval.tool) else {
            return Ok(Output::plain(format!("`{}` is not there at the moment; ask me again later.", approval.tool)));
        };
        crate::crash_point!("talk.approved");
        let caller = Caller { audience: talk.audience, said: &[], key: talk.key, is_tainted: true };
        let result = match carry_out(tool.as_ref(), &approval.arguments, &caller, &self.cancel).await {
            Ok(result) if tool.is_from_outside() => fenced(&approval.tool, &result),
            Ok(result) => result,
            Err(ToolError::Cancelled) => return Err(WorkError::Cancelled),
            Err(error) => format!("It did not work: {error}."),
        };
        let approved = Approved { tool: approval.tool, arguments: approval.arguments, result };
        let history = self.history().await;
        self.talk(Talk { approved: Some(&approved), history: &history, ..*talk }, progress).await
    }

    /// Keeps a call that waits for a yes, and asks for it below what was said.
    pub(super) async fn propose(&self, output: Output) -> Result<Output, WorkError> {
        let (Some(proposal), Some(person)) = (&output.proposal, self.order.person()) else { return Ok(output) };
        let approval = Approval::new(proposal.clone(), &person, &self.order.id.to_string(), now_ms() / 1000);
        let content = approval.question(&output.content);
        self.tools.journal.propose(approval).await.map_err(|e| WorkError::Failed(e.to_string()))?;
        Ok(Output { content, ..output })
    }

    /// Notes in which message a proposal stands, so that a mark on it answers it.
    pub(super) async fn name_proposal(&self, output: &str, name: String) {
        let code = code(&self.order.id.to_string());
        if output.contains(&code)
            && let Err(error) = self.tools.journal.name_proposal(code, name).await
        {
            tracing::warn!(%error, "a mark on this question will not answer it");
        }
    }

    /// A mark on something that was said: it answers a proposal, and is otherwise nothing.
    pub(super) async fn marked(
        &self,
        on: &str,
        yes: bool,
        talk: &Talk<'_>,
        progress: &mpsc::Sender<String>,
    ) -> Result<Output, WorkError> {
        let code = self.tools.journal.proposal_in(on.to_owned()).await.map_err(|e| WorkError::Failed(e.to_string()))?;
        let Some(code) = code else { return Ok(Output::plain(String::new())) };
        // A NIP-17 reaction is sealed by its author like a word; one in Matrix is written by whoever has the homeserver.
        let means = if matches!(self.order.origin, Origin::Matrix { .. }) { Means::Reaction } else { Means::Word };
        if yes {
            return self.approve(&code, means, talk, progress).await;
        }
        let said =
            self.answer(&code, false, means).await?.err().map_or("Then I leave it.".to_owned(), |e| e.to_string());
        Ok(Output::plain(said))
    }

    fn account(&self) -> Option<Account> {
        match &self.order.origin {
            Origin::Message { author, .. } => Some(Account::Nostr(*author)),
            Origin::Matrix { sender, .. } => Some(Account::Matrix(sender.clone())),
            Origin::Nostr { .. } | Origin::Local => None,
        }
    }

    /// Links two accounts of a person, once both have said so; what was said and kept under the one is then under the other.
    async fn link(&self, what: &str) -> Result<String, WorkError> {
        let Some(account) = self.account() else {
            return Ok("Linking takes a word from each account: write `!link` to me by Nostr or in Matrix.".to_owned());
        };
        let taken = self.tools.change_links(|links| links.take(&account, what, now_ms() / 1000)).await;
        match taken.map_err(|e| WorkError::Failed(e.to_string()))? {
            Err(refusal) => Ok(refusal.to_string()),
            Ok(Linked::Asked { code, other }) => {
                Ok(format!("Now write to me as {other}, within ten minutes:\n\n`!link {code}`"))
            }
            Ok(Linked::Done { mxid, npub }) => {
                self.tools.moved(&mxid, npub).await.map_err(|e| WorkError::Failed(e.to_string()))?;
                let npub = nostr::ToBech32::to_bech32(&npub).unwrap_or_default();
                Ok(format!(
                    "{mxid} and {npub} are one person to me now: one talk, one memory. `!unlink {mxid}` parts them."
                ))
            }
        }
    }

    async fn unlink(&self, mxid: &str) -> Result<String, WorkError> {
        let Some(account) = self.account() else { return Ok("Write that to me by Nostr or in Matrix.".to_owned()) };
        let cut = self.tools.change_links(|links| links.cut(&account, mxid.trim_matches('`'))).await;
        let cut = cut.map_err(|e| WorkError::Failed(e.to_string()))?;
        Ok(if cut {
            "They are two again.".to_owned()
        } else {
            "No account of yours is linked under that name.".to_owned()
        })
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
            (Work::Talk { .. } | Work::Mark { .. }, Audience::Owner) => Some("owner".to_owned()),
            (Work::Talk { .. } | Work::Mark { .. }, Audience::Person(key)) => Some(key.to_hex()),
            _ => None,
        }
    }
}
