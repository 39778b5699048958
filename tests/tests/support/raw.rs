//! A bare WebSocket that can claim things in its headers.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tests::PATIENCE;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// One connection.
pub struct Raw(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Raw {
    /// Connects; none when the relay refuses the upgrade or closes at once.
    pub async fn try_connect(url: &str, headers: &[(&'static str, &str)]) -> Option<Self> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
        let mut raw = Self(socket);
        // The relay's challenge shows that the connection was admitted.
        raw.next().await.map(|_| raw)
    }

    /// Connects to a relay that lets us in; its first message is thrown away unless it is asked for by [`Raw::message`].
    pub async fn connect(url: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Self(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    pub async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the relay is silent")?.ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => return None,
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The next message of a kind.
    pub async fn message(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.expect("the relay closed the connection");
            if message[0] == kind {
                return message;
            }
        }
    }
}
