//! What an event of a timeline is to the agent.

use matrix_sdk::deserialized_responses::{TimelineEvent, TimelineEventKind, VerificationLevel, VerificationState};
use serde_json::Value;

use super::{Incoming, MatrixFile, Place, What, Why};

/// The longest message that is taken, bytes; more is cut.
const MAX_TEXT: usize = 64 * 1024;

/// The longest name of a file, characters.
const MAX_NAME: usize = 120;

/// What the door needs to know of a room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    /// The room.
    pub room: &'a str,
    /// Our own MXID.
    pub me: &'a str,
    /// It is encrypted.
    pub is_encrypted: bool,
    /// Everything in it is meant for the agent.
    pub is_dm: bool,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing to the agent.
    Nothing,
    /// Words for it.
    Taken(Incoming),
    /// It cannot be read yet: (event, sender, Unix ms).
    Unreadable(Incoming),
}

/// Where an event stands.
pub(super) fn place(event: &TimelineEvent) -> Option<Place> {
    let at_ms = event.timestamp().map(|at| u64::from(at.0)).unwrap_or_default();
    Some(Place { event: event.event_id()?.to_string(), at_ms })
}

/// Judges an event. Who may talk is asked elsewhere.
pub(super) fn judge(event: &TimelineEvent, setting: Setting<'_>) -> Judged {
    let Ok(json) = event.raw().deserialize_as_unchecked::<Value>() else { return Judged::Nothing };
    let (Some(place), Some(sender)) = (place(event), json["sender"].as_str()) else { return Judged::Nothing };
    if sender == setting.me || !json["state_key"].is_null() {
        return Judged::Nothing;
    }
    let incoming = |what| Incoming {
        room: setting.room.to_owned(),
        event: place.event.clone(),
        sender: sender.to_owned(),
        at_ms: place.at_ms,
        thread: thread(&json["content"]),
        what,
    };
    let is_plain = match &event.kind {
        TimelineEventKind::UnableToDecrypt { .. } => {
            return Judged::Unreadable(incoming(What::Refused(Why::Unreadable)));
        }
        TimelineEventKind::PlainText { .. } => true,
        TimelineEventKind::Decrypted(_) => false,
    };
    if let Some((event, mark)) = reaction(&json) {
        return Judged::Taken(incoming(What::Reaction(event, mark)));
    }
    let Some(what) = words(&json, setting) else { return Judged::Nothing };
    let why = match event.encryption_info().map(|info| &info.verification_state) {
        None if !setting.is_encrypted => Some(Why::OpenRoom),
        None => is_plain.then_some(Why::ClearText),
        Some(VerificationState::Verified) => None,
        Some(VerificationState::Unverified(level)) => match level {
            // The person's own identity signed the device; that we have not compared emojis with them is no fault of theirs.
            VerificationLevel::UnverifiedIdentity => None,
            VerificationLevel::VerificationViolation
            | VerificationLevel::UnsignedDevice
            | VerificationLevel::None(_)
            | VerificationLevel::MismatchedSender => Some(Why::UnsignedDevice),
        },
    };
    Judged::Taken(incoming(why.map_or(what, What::Refused)))
}

fn thread(content: &Value) -> Option<String> {
    let relation = &content["m.relates_to"];
    (relation["rel_type"] == "m.thread").then(|| relation["event_id"].as_str().map(ToOwned::to_owned))?
}

/// A mark on a message.
fn reaction(json: &Value) -> Option<(String, String)> {
    let relation = &json["content"]["m.relates_to"];
    if json["type"] != "m.reaction" || relation["rel_type"] != "m.annotation" {
        return None;
    }
    Some((relation["event_id"].as_str()?.to_owned(), relation["key"].as_str()?.chars().take(16).collect()))
}

/// A file in a message. Where there is no key it is not encrypted.
fn file(content: &Value, body: &str) -> What {
    if !content["file"].is_object() {
        return What::Refused(Why::OpenFile);
    }
    let name = content["filename"].as_str().unwrap_or(body);
    let caption = if content["filename"].is_string() && body != name { body.trim() } else { "" };
    let is_voice = content["msgtype"] == "m.audio" && !content["org.matrix.msc3245.voice"].is_null();
    What::File(MatrixFile {
        name: name.chars().take(MAX_NAME).collect(),
        mime: content["info"]["mimetype"].as_str().map(|mime| mime.chars().take(MAX_NAME).collect()),
        bytes: content["info"]["size"].as_u64(),
        caption: caption[..caption.floor_char_boundary(MAX_TEXT)].to_owned(),
        is_voice,
        source: content["file"].to_string(),
    })
}

/// What a message says; none when it is not for the agent.
fn words(json: &Value, setting: Setting<'_>) -> Option<What> {
    let content = &json["content"];
    if json["type"] != "m.room.message" || content["m.relates_to"]["rel_type"] == "m.replace" {
        return None;
    }
    let body = content["body"].as_str().unwrap_or_default();
    if !setting.is_dm && !is_addressed(content, body, setting.me) {
        return None;
    }
    match content["msgtype"].as_str()? {
        "m.text" | "m.emote" => {
            let is_reply = !content["m.relates_to"]["m.in_reply_to"].is_null();
            let text = if is_reply { without_quote(body) } else { body };
            let text = text.trim();
            (!text.is_empty()).then(|| What::Text(text[..text.floor_char_boundary(MAX_TEXT)].to_owned()))
        }
        "m.image" | "m.file" | "m.audio" | "m.video" => Some(file(content, body)),
        _ => None,
    }
}

/// Older clients put what is answered before the answer, each line after `> `.
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> ") {
        return body;
    }
    let mut rest = body;
    while let Some(line) = rest.strip_prefix('>') {
        let Some((_, after)) = line.split_once('\n') else { return body };
        rest = after;
    }
    rest
}

/// In a room of several people the agent answers when it is named.
fn is_addressed(content: &Value, body: &str, me: &str) -> bool {
    let mentioned = content["m.mentions"]["user_ids"].as_array();
    if mentioned.is_some_and(|all| all.iter().any(|one| one == me)) {
        return true;
    }
    let name = me.trim_start_matches('@').split(':').next().unwrap_or(me).to_lowercase();
    body.contains(me) || body.to_lowercase().split(|c: char| !c.is_alphanumeric()).next() == Some(&*name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DM: Setting<'_> = Setting { room: "!r:x", me: "@timmy:x", is_encrypted: true, is_dm: true };

    fn message(content: &Value) -> Value {
        json!({"type": "m.room.message", "sender": "@a:x", "event_id": "$1", "content": content})
    }

    fn said(content: &Value, setting: Setting<'_>) -> Option<What> {
        words(&message(content), setting)
    }

    #[test]
    fn words_are_text_without_what_they_answer_and_edits_and_notices_are_none() {
        let text = |body: &str| json!({"msgtype": "m.text", "body": body});
        assert_eq!(said(&text("  hello "), DM), Some(What::Text("hello".into())));
        assert_eq!(said(&text("   "), DM), None);
        let reply = json!({"msgtype": "m.text", "body": "> <@b:x> what\n> ever\n\nyes", "m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}});
        assert_eq!(said(&reply, DM), Some(What::Text("yes".into())));
        assert_eq!(said(&text("> a quotation of my own"), DM), Some(What::Text("> a quotation of my own".into())));
        let edit =
            json!({"msgtype": "m.text", "body": "* new", "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}});
        assert_eq!(said(&edit, DM), None);
        assert_eq!(said(&json!({"msgtype": "m.notice", "body": "a bot"}), DM), None);
        let asked = json!({"msgtype": "m.key.verification.request", "body": "wants to verify"});
        assert_eq!(said(&asked, DM), None, "a request to verify is no prompt");
        assert_eq!(
            said(&json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/y"}), DM),
            Some(What::Refused(Why::OpenFile))
        );
        assert_eq!(said(&json!({"msgtype": 3, "body": ["x"]}), DM), None);
    }

    #[test]
    fn in_a_room_of_several_it_answers_when_it_is_named() {
        let room = Setting { is_dm: false, ..DM };
        let text = |body: &str| json!({"msgtype": "m.text", "body": body});
        assert_eq!(said(&text("hello all"), room), None);
        assert_eq!(said(&text("I told timmy yesterday"), room), None);
        assert!(said(&text("Timmy: hello"), room).is_some());
        assert!(said(&text("what says @timmy:x?"), room).is_some());
        let named = json!({"msgtype": "m.text", "body": "and you?", "m.mentions": {"user_ids": ["@timmy:x"]}});
        assert!(said(&named, room).is_some());
    }

    #[test]
    fn a_file_has_a_name_a_caption_and_a_key_and_a_mark_its_message() {
        let content = json!({"msgtype": "m.audio", "body": "listen", "filename": "a.ogg", "org.matrix.msc3245.voice": {},
            "info": {"mimetype": "audio/ogg", "size": 7}, "file": {"url": "mxc://x/y"}});
        let Some(What::File(file)) = said(&content, DM) else { panic!("no file") };
        assert_eq!((file.name.as_str(), file.caption.as_str(), file.is_voice), ("a.ogg", "listen", true));
        assert_eq!((file.bytes, file.mime.as_deref()), (Some(7), Some("audio/ogg")));
        let bare = json!({"msgtype": "m.file", "body": "plan.txt", "file": {}});
        let Some(What::File(file)) = said(&bare, DM) else { panic!("no file") };
        assert_eq!((file.name.as_str(), file.caption.as_str(), file.is_voice), ("plan.txt", "", false));
        let mark = json!({"type": "m.reaction", "content": {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$1", "key": "👍"}}});
        assert_eq!(reaction(&mark), Some(("$1".into(), "👍".into())));
        assert_eq!(reaction(&json!({"type": "m.room.message", "content": {}})), None);
    }

    #[test]
    fn the_root_of_a_thread_is_kept() {
        let content = json!({"m.relates_to": {"rel_type": "m.thread", "event_id": "$root"}});
        assert_eq!(thread(&content), Some("$root".into()));
        assert_eq!(thread(&json!({})), None);
    }
}
