//! A Hugging Face Hub on loopback that fails on request, for tests.
//!
//! ```
//! use automodel_hub_test_server::{Hub, Repo, Server};
//!
//! let mut repo = Repo::default();
//! let commit = repo.commit("main", [("config.json", b"{}".to_vec())]);
//! let server = Server::start(Hub::with("org/tiny", repo));
//! assert!(server.url().starts_with("http://127.0.0.1:"));
//! assert_eq!((commit.len(), server.log().len()), (40, 0));
//! ```

mod connection;
mod fault;
mod hub;
mod response;
mod routes;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

pub use fault::{Fault, FaultKind};
pub use hub::{File, Hub, Repo};

/// A request with its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// It was sent to the storage origin of large files.
    pub to_storage: bool,
    /// First byte of the requested range.
    pub range_start: Option<u64>,
    /// It had an access token.
    pub has_token: bool,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub body_bytes: u64,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// State shared by all connections.
#[derive(Debug)]
struct Shared {
    hub: Mutex<Hub>,
    log: Mutex<Vec<Request>>,
    stopped: AtomicBool,
    api: SocketAddr,
    storage: SocketAddr,
}

impl Server {
    /// Starts a server on two free ports: one for the API, one for large files.
    ///
    /// # Panics
    /// If loopback has no free ports.
    pub fn start(hub: Hub) -> Self {
        let bind = || -> io::Result<(TcpListener, SocketAddr)> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let ((api_listener, api), (storage_listener, storage)) =
            (bind().expect("a free port"), bind().expect("a free port"));
        let (hub, log, stopped) = (Mutex::new(hub), Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { hub, log, stopped, api, storage });
        for (listener, is_storage) in [(api_listener, false), (storage_listener, true)] {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, is_storage, &shared));
        }
        Self { shared }
    }

    /// Address of the API, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.api)
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<Request> {
        lock(&self.shared.log).clone()
    }

    /// Clears the log of requests.
    pub fn clear_log(&self) {
        lock(&self.shared.log).clear();
    }

    /// Changes the served repos between two requests.
    pub fn change<T>(&self, change: impl FnOnce(&mut Hub) -> T) -> T {
        change(&mut lock(&self.shared.hub))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for address in [self.shared.api, self.shared.storage] {
            // Wakes the thread that waits for connections.
            let _ = std::net::TcpStream::connect(address);
        }
    }
}

fn accept(listener: &TcpListener, is_storage: bool, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream {
            let shared = Arc::clone(shared);
            thread::spawn(move || connection::serve(&stream, is_storage, &shared));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
