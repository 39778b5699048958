//! What the journal keeps of an invitation.

use nips::federation::{Code, InvitationId, Role, Secret};
use nostr::PublicKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Where an invitation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Open,
    /// By this passport; it may come again.
    Spent(PublicKey),
    /// After too many wrong proofs, or taken back.
    Burnt,
}

/// One invitation, as it is journaled. It holds a secret: to be kept where keys are.
#[derive(Clone)]
pub struct Record {
    pub(super) id: InvitationId,
    pub(super) secret: Secret,
    pub(super) role: Role,
    /// A removed passport that may come back by this invitation.
    pub(super) readmit: Option<PublicKey>,
    pub(super) expires_at: u64,
    pub(super) wrong: u32,
    pub(super) state: State,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}, {:?})", self.id, self.state)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: InvitationId,
    secret: String,
    role: Role,
    readmit: Option<PublicKey>,
    expires_at: u64,
    wrong: u32,
    state: State,
}

impl Record {
    pub(super) fn new(code: &Code, readmit: Option<PublicKey>) -> Self {
        let role = if code.is_guest { Role::Guest } else { Role::Sibling };
        let (id, secret) = (code.id(), code.secret());
        Self { id, secret, role, readmit, expires_at: code.expires_at, wrong: 0, state: State::Open }
    }

    /// Its name: the journal's key.
    pub fn id(&self) -> InvitationId {
        self.id
    }

    /// As JSON, with the secret.
    pub fn to_json(&self) -> Zeroizing<String> {
        let mut stored = Stored {
            id: self.id,
            secret: hex::encode(self.secret.expose()),
            role: self.role,
            readmit: self.readmit,
            expires_at: self.expires_at,
            wrong: self.wrong,
            state: self.state,
        };
        let text = Zeroizing::new(serde_json::to_string(&stored).unwrap_or_default());
        stored.secret.zeroize();
        text
    }

    /// Reads such JSON; none when it is damaged.
    pub fn from_json(text: &str) -> Option<Self> {
        let Stored { id, secret, role, readmit, expires_at, wrong, state } = serde_json::from_str(text).ok()?;
        let secret = Zeroizing::new(secret);
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(secret.as_bytes(), bytes.as_mut_slice()).ok()?;
        Some(Self { id, secret: Secret::new(*bytes), role, readmit, expires_at, wrong, state })
    }
}
