//! The lightest WebSocket client that can load a relay: frames are made beforehand, nothing is parsed that is not looked at,
//! so that what is measured on two cores is the relay and not its client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

/// A server that is silent for so long is broken.
const SILENCE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 64 << 10;
const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    read: usize,
}

/// A text message as a client's frame. The mask is zero, which the protocol allows and which costs nothing to apply.
pub fn frame(text: &str) -> Vec<u8> {
    control(TEXT, text.as_bytes())
}

fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FINAL | opcode];
    match payload.len() {
        short @ 0..126 => bytes.push(MASKED | short as u8),
        long @ 126..65_536 => {
            bytes.push(MASKED | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
        longer => {
            bytes.push(MASKED | 127);
            bytes.extend((longer as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

impl Wire {
    /// Connects to `ip:port` and upgrades.
    pub fn connect(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let hello = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(hello.as_bytes()).unwrap();
        let mut wire = Self { stream, buffer: Vec::new(), read: 0 };
        let end = loop {
            match wire.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => wire.fill(),
            }
        };
        assert!(wire.buffer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&wire.buffer));
        wire.read = end;
        wire
    }

    /// Writes frames that are ready.
    pub fn send(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).unwrap();
    }

    /// The next text message, waited for.
    pub fn next(&mut self) -> &str {
        let range = loop {
            match self.take() {
                Some(range) => break range,
                None => self.fill(),
            }
        };
        std::str::from_utf8(&self.buffer[range]).unwrap()
    }

    /// The next text message if it has arrived already.
    pub fn arrived(&mut self) -> Option<&str> {
        let range = self.take()?;
        Some(std::str::from_utf8(&self.buffer[range]).unwrap())
    }

    /// Reads on until a message begins so.
    pub fn until(&mut self, head: &str) -> String {
        loop {
            let text = self.next();
            if text.starts_with(head) {
                return text.to_owned();
            }
            assert!(!text.starts_with("[\"CLOSED\"") && !text.starts_with("[\"NOTICE\""), "{text}");
        }
    }

    /// The payload of the next text frame, if all of it is here.
    fn take(&mut self) -> Option<Range<usize>> {
        loop {
            let bytes = &self.buffer[self.read..];
            let (first, second) = (*bytes.first()?, *bytes.get(1)?);
            let (head, length) = match second {
                126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
                127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
                short => (2, usize::from(short)),
            };
            if bytes.len() < head + length {
                return None;
            }
            let payload = self.read + head..self.read + head + length;
            self.read = payload.end;
            match first {
                f if f == FINAL | TEXT => return Some(payload),
                f if f == FINAL | PING => {
                    let pong = control(PONG, &self.buffer[payload]);
                    self.send(&pong);
                }
                f if f == FINAL | PONG => {}
                other => panic!("frame {other:#x}: {}", String::from_utf8_lossy(&self.buffer[payload])),
            }
        }
    }

    fn fill(&mut self) {
        self.buffer.drain(..self.read);
        self.read = 0;
        let full = self.buffer.len();
        self.buffer.resize(full + READ_BYTES, 0);
        let count = self.stream.read(&mut self.buffer[full..]).expect("the server is silent");
        assert!(count > 0, "the server closed the connection");
        self.buffer.truncate(full + count);
    }
}
