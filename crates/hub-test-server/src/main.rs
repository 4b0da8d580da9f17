//! Serves the files of a directory as the repo `org/checked`: `automodel-hub-test-server DIRECTORY`.
//!
//! Prints its address. Each line on standard input is answered with the requests since the last one, a line of JSON; the end of
//! standard input ends it.

use automodel_hub_test_server::{Hub, Repo, Server};
use std::{env, error::Error, fs, io};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args().nth(1).ok_or("give a directory")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a name is not UTF-8")?.to_owned();
        files.push((name, fs::read(&path)?));
    }
    let mut repo = Repo::default();
    repo.commit("main", files);
    let server = Server::start(Hub::with("org/checked", repo));
    println!("{}", server.url());
    for line in io::stdin().lines() {
        line?;
        let requests = server.log().into_iter().map(|request| {
            serde_json::json!({ "method": request.method, "target": request.target, "bytes": request.body_bytes })
        });
        println!("{}", requests.collect::<serde_json::Value>());
        server.clear_log();
    }
    Ok(())
}
