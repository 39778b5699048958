//! One person, two accounts: an npub and an MXID are linked when both have said so.
//!
//! One side names the other and gets a code; the other side says the code. Both words come by encrypted doors that know who writes, so
//! nobody links an account that is not theirs, and nobody is linked without having said so.

use std::collections::BTreeMap;

use bots::talk::letters;
use nostr::{PublicKey, ToBech32};
use serde::{Deserialize, Serialize};

/// How long the other side has, seconds.
const WAITS_S: u64 = 600;
/// Requests that wait at once; the oldest gives way.
const MAX_WAITING: usize = 64;
const CODE_LETTERS: usize = 8;

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Account {
    /// By NIP-17.
    Nostr(PublicKey),
    /// In an encrypted Matrix room.
    Matrix(String),
}

/// Accounts that belong together, and those that are about to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    linked: BTreeMap<String, PublicKey>,
    waiting: Vec<Request>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    code: String,
    from: Account,
    to: Account,
    expires_s: u64,
    /// The message that said the code: said again by it, the answer is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done_by: Option<String>,
}

/// What came of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// The other side has to say the code.
    Asked {
        /// It.
        code: String,
        /// The other side, as people write it.
        other: String,
    },
    /// Both have said so.
    Done {
        /// The Matrix account.
        mxid: String,
        /// The key.
        npub: PublicKey,
    },
}

/// Why nothing was linked. The words are for the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// Neither an account of the other kind nor a code that this account was given.
    #[error(
        "I need the account to link, or the code that I gave its owner: from Nostr `!link @you:example.org`, from Matrix `!link npub1…`."
    )]
    Unknown,
    /// It is linked already.
    #[error("That account is linked already; `!unlink` it first.")]
    Taken,
}

impl Links {
    /// The key that an MXID belongs to.
    pub fn key_of(&self, mxid: &str) -> Option<PublicKey> {
        self.linked.get(mxid).copied()
    }

    /// True for an account that may say its code, and nothing else.
    pub fn awaits(&self, who: &Account, now_s: u64) -> bool {
        self.waiting.iter().any(|one| one.to == *who && one.done_by.is_none() && now_s < one.expires_s)
    }

    /// Takes a word of `who`, in the message `order`: the account to link, or the code.
    ///
    /// # Errors
    /// Why nothing changed.
    pub fn take(&mut self, who: &Account, word: &str, order: &str, now_s: u64) -> Result<Linked, LinkRefusal> {
        self.waiting.retain(|one| now_s < one.expires_s);
        let word = word.trim().trim_matches('`');
        if let Some(to) = other(who, word) {
            return self.ask(who, to, now_s);
        }
        let code = word.to_uppercase();
        let is_meant = |one: &&mut Request| one.to == *who && one.code == code;
        let request = self.waiting.iter_mut().find(is_meant).ok_or(LinkRefusal::Unknown)?;
        let pair = sorted(request.from.clone(), request.to.clone());
        let (Account::Nostr(npub), Account::Matrix(mxid)) = pair else { return Err(LinkRefusal::Unknown) };
        match &request.done_by {
            Some(by) if by == order => return Ok(Linked::Done { mxid, npub }),
            Some(_) => return Err(LinkRefusal::Unknown),
            None if self.linked.contains_key(&mxid) => return Err(LinkRefusal::Taken),
            None => request.done_by = Some(order.to_owned()),
        }
        let own = Account::Matrix(mxid.clone());
        self.waiting.retain(|one| one.done_by.is_some() || (one.from != own && one.to != own));
        self.linked.insert(mxid.clone(), npub);
        Ok(Linked::Done { mxid, npub })
    }

    fn ask(&mut self, who: &Account, to: Account, now_s: u64) -> Result<Linked, LinkRefusal> {
        let mxid = match (who, &to) {
            (_, Account::Matrix(mxid)) | (Account::Matrix(mxid), _) => mxid,
            (Account::Nostr(_), Account::Nostr(_)) => return Err(LinkRefusal::Unknown),
        };
        if self.linked.contains_key(mxid) {
            return Err(LinkRefusal::Taken);
        }
        self.waiting.retain(|one| one.from != *who);
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.remove(0);
        }
        let code = letters(&rand::random::<[u8; CODE_LETTERS]>());
        let shown = match &to {
            Account::Matrix(mxid) => mxid.clone(),
            Account::Nostr(key) => key.to_bech32().unwrap_or_default(),
        };
        self.waiting.push(Request {
            code: code.clone(),
            from: who.clone(),
            to,
            expires_s: now_s + WAITS_S,
            done_by: None,
        });
        Ok(Linked::Asked { code, other: shown })
    }

    /// Takes a link away; true when there was one that `who` is a side of.
    pub fn cut(&mut self, who: &Account, mxid: &str) -> bool {
        let is_theirs = self.linked.get(mxid).is_some_and(|npub| match who {
            Account::Nostr(key) => key == npub,
            Account::Matrix(own) => own == mxid || self.linked.get(own) == Some(npub),
        });
        is_theirs && self.linked.remove(mxid).is_some()
    }
}

/// The account of the other kind that a word names.
fn other(who: &Account, word: &str) -> Option<Account> {
    match who {
        Account::Nostr(_) => {
            let (name, server) = word.strip_prefix('@')?.split_once(':')?;
            (!name.is_empty() && !server.is_empty()).then(|| Account::Matrix(word.to_owned()))
        }
        Account::Matrix(_) => PublicKey::parse(word).ok().map(Account::Nostr),
    }
}

/// The key first.
fn sorted(one: Account, two: Account) -> (Account, Account) {
    if matches!(one, Account::Nostr(_)) { (one, two) } else { (two, one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npub() -> Account {
        Account::Nostr(nostr::Keys::generate().public_key())
    }

    fn mxid(name: &str) -> Account {
        Account::Matrix(format!("@{name}:x"))
    }

    fn code(asked: Linked) -> String {
        match asked {
            Linked::Asked { code, .. } => code,
            Linked::Done { .. } => panic!("linked by one side"),
        }
    }

    #[test]
    fn both_sides_must_say_so() {
        let (mut links, alice, thief) = (Links::default(), npub(), npub());
        let code = code(links.take(&alice, "@alice:x", "m1", 0).unwrap());
        // Neither the same side, nor another account, nor later.
        for who in [&alice, &thief, &mxid("mallory")] {
            assert_eq!(links.take(who, &code, "m2", 1), Err(LinkRefusal::Unknown));
        }
        assert!(links.awaits(&mxid("alice"), 1) && !links.awaits(&mxid("alice"), WAITS_S) && !links.awaits(&alice, 1));
        assert_eq!(links.clone().take(&mxid("alice"), &code, "m2", WAITS_S), Err(LinkRefusal::Unknown));
        let Account::Nostr(key) = alice.clone() else { panic!() };
        assert_eq!(
            links.take(&mxid("alice"), &code.to_lowercase(), "m3", 1),
            Ok(Linked::Done { mxid: "@alice:x".into(), npub: key })
        );
        let again = links.clone().take(&mxid("alice"), &code, "m3", 2);
        assert!(matches!(again, Ok(Linked::Done { .. })), "the same message, worked on again");
        assert_eq!(links.key_of("@alice:x"), Some(key));
        assert_eq!(links.take(&mxid("alice"), &code, "m4", 2), Err(LinkRefusal::Unknown), "a code is good once");
        assert_eq!(links.take(&thief, "@alice:x", "m1", 2), Err(LinkRefusal::Taken));
        assert!(!links.cut(&thief, "@alice:x") && links.cut(&alice, "@alice:x") && links.key_of("@alice:x").is_none());
    }

    #[test]
    fn it_may_begin_in_matrix_too() {
        let (mut links, key) = (Links::default(), nostr::Keys::generate().public_key());
        let code = code(links.take(&mxid("bob"), &key.to_bech32().unwrap(), "m1", 0).unwrap());
        assert!(matches!(links.take(&Account::Nostr(key), &code, "m2", 5), Ok(Linked::Done { .. })));
        assert!(links.cut(&mxid("bob"), "@bob:x"));
        assert_eq!(links.take(&mxid("bob"), "nonsense", "m3", 6), Err(LinkRefusal::Unknown));
    }
}
