//! What a model may do only after its person has said yes.

use bots::talk::{Approval, Means, Refusal, Reply, code};
use bots::tools::{Caller, ToolError, carry_out, fenced};
use bots::{Approved, Output, Talk, WorkError};
use tokio::sync::mpsc;

use super::order::Origin;
use super::work::Bench;
use crate::journal::{Answer, now_ms};

impl Bench {
    async fn answer(&self, code: &str, reply: Reply, means: Means) -> Result<Result<Approval, Refusal>, WorkError> {
        let Some(person) = self.order.person() else { return Ok(Err(Refusal::Unknown)) };
        let code = code.trim_matches('`').to_uppercase();
        let answer = Answer { code, reply, person, order: self.order.id.to_string(), means };
        self.tools.journal.answer_proposal(answer).await.map_err(|e| WorkError::Failed(e.to_string()))
    }

    /// Leaves a call that was proposed.
    pub(super) async fn deny(&self, code: &str, means: Means) -> Result<String, WorkError> {
        Ok(match self.answer(code, Reply::No, means).await? {
            Ok(_) => "Then I leave it.".to_owned(),
            Err(refusal) => refusal.to_string(),
        })
    }

    /// Makes a call that was proposed, once, and lets a model say what came of it.
    pub(super) async fn approve(
        &self,
        code: &str,
        means: Means,
        talk: &Talk<'_>,
        progress: &mpsc::Sender<String>,
    ) -> Result<Output, WorkError> {
        let at_hand = talk.tools.iter().map(|tool| tool.card().offer.name).collect();
        let approval = match self.answer(code, Reply::Yes(at_hand), means).await? {
            Ok(approval) => approval,
            Err(refusal) => return Ok(Output::plain(refusal.to_string())),
        };
        let found =
            talk.tools.iter().map(|tool| (tool.card(), tool)).find(|(card, _)| card.offer.name == approval.tool);
        let Some((card, tool)) = found else {
            return Ok(Output::plain(Refusal::Away.to_string()));
        };
        crate::crash_point!("talk.approved");
        let caller = Caller { audience: talk.audience, said: &[], key: talk.key, is_tainted: true };
        let result = match carry_out(tool.as_ref(), &approval.arguments, &caller, &self.cancel).await {
            Ok(result) if card.is_from_outside => fenced(&approval.tool, &result),
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
        progress: &mpsc::Sender<String>,
    ) -> Result<Output, WorkError> {
        let code = self.tools.journal.proposal_in(on.to_owned()).await.map_err(|e| WorkError::Failed(e.to_string()))?;
        let Some(code) = code else { return Ok(Output::plain(String::new())) };
        // A NIP-17 reaction is sealed by its author like a word; one in Matrix is written by whoever has the homeserver.
        let means = if matches!(self.order.origin, Origin::Matrix { .. }) { Means::Reaction } else { Means::Word };
        if yes {
            let (key, tools, system) = (self.order.id.to_string(), self.person_tools(), self.system("").await);
            return self.approve(&code, means, &self.talk_of("Yes.", &system, &tools, &key), progress).await;
        }
        Ok(Output::plain(self.deny(&code, means).await?))
    }
}
