//! Messages of sync: what is read is written and read back alike.
#![no_main]

use fuzz::sync::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::parse(bytes) {
        let again = Message::parse(message.to_json().as_bytes());
        assert_eq!(again.as_ref(), Ok(&message));
    }
});
