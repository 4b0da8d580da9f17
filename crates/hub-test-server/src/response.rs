//! Responses, and how they are sent.

use std::{
    io::{self, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Duration,
};

/// Bytes that a throttled connection sends at once.
const PIECE: usize = 4096;

/// A response.
#[derive(Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Arc<Vec<u8>>,
    /// The sent part of the body.
    pub start: usize,
    pub end: usize,
    /// The connection ends after this number of body bytes.
    pub cut: Option<usize>,
    /// Pause before the connection ends.
    pub stall: Duration,
}

impl Response {
    pub fn new(status: u16, body: Vec<u8>) -> Self {
        let end = body.len();
        Self { status, body: Arc::new(body), end, ..Self::default() }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(200, value.to_string().into_bytes()).with("content-type", "application/json")
    }

    /// An error in the Hub's format.
    pub fn refused(status: u16, code: &str) -> Self {
        let response = Self::new(status, b"{\"error\": \"refused\"}".to_vec());
        if code.is_empty() { response } else { response.with("x-error-code", code) }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends it; returns the number of sent body bytes, and whether the connection stays open.
    pub fn send(&self, stream: &mut TcpStream, is_head: bool, rate: Option<u64>) -> io::Result<(u64, bool)> {
        let length = self.end - self.start;
        let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {length}\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if is_head {
            return Ok((0, true));
        }
        let sent = self.cut.unwrap_or(length).min(length);
        let body = self.body.get(self.start..self.start + sent).unwrap_or_default();
        match rate {
            None => stream.write_all(body)?,
            Some(rate) => {
                for piece in body.chunks(PIECE) {
                    stream.write_all(piece)?;
                    thread::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64));
                }
            }
        }
        stream.flush()?;
        if self.cut.is_some() {
            thread::sleep(self.stall);
        }
        Ok((sent as u64, self.cut.is_none()))
    }
}
