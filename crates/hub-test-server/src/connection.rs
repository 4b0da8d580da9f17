//! One connection with its requests.

use std::{
    io::{self, BufRead, BufReader},
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
};

use crate::{FaultKind, Request, Shared, lock, response::Response, routes};

/// A parsed request.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub range: Option<(u64, Option<u64>)>,
    pub token: Option<String>,
    pub is_storage: bool,
}

pub fn serve(stream: &TcpStream, is_storage: bool, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let Ok(read_half) = stream.try_clone() else { return };
    let mut reader = BufReader::new(read_half);
    let Ok(mut writer) = stream.try_clone() else { return };
    while let Ok(Some(asked)) = read(&mut reader, is_storage) {
        if shared.stopped.load(Ordering::SeqCst) || !matches!(response(&asked, &mut writer, shared), Ok(true)) {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn read(reader: &mut impl BufRead, is_storage: bool) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return Ok(None) };
    let mut asked = Asked { method, target, range: None, token: None, is_storage };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(asked)) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = range(value),
            "authorization" => asked.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
}

fn range(value: &str) -> Option<(u64, Option<u64>)> {
    let (start, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((start.parse().ok()?, last.parse().ok()))
}

/// Sends the response, and returns whether the connection stays open.
fn response(asked: &Asked, writer: &mut TcpStream, shared: &Shared) -> io::Result<bool> {
    let (response, rate) = {
        let mut hub = lock(&shared.hub);
        let fault = hub.strike(&asked.target);
        let response = faulty(fault, asked, || routes::response(&hub, asked, shared));
        if let Some((_, Some((repo, branch, commit)))) = &response
            && let Some(repo) = hub.repos.get_mut(repo)
        {
            repo.branches.insert(branch.clone(), commit.clone());
        }
        (response.map(|(response, _)| response), hub.bytes_per_second)
    };
    let mut request = Request {
        method: asked.method.clone(),
        target: asked.target.clone(),
        to_storage: asked.is_storage,
        range_start: asked.range.map(|(start, _)| start),
        has_token: asked.token.is_some(),
        status: response.as_ref().map_or(0, |response| response.status),
        body_bytes: 0,
    };
    let number = {
        let mut log = lock(&shared.log);
        log.push(request.clone());
        log.len() - 1
    };
    let Some(response) = response else { return Ok(false) };
    let (sent, goes_on) = response.send(writer, asked.method == "HEAD", rate)?;
    request.body_bytes = sent;
    if let Some(entry) = lock(&shared.log).get_mut(number) {
        *entry = request;
    }
    Ok(goes_on)
}

type Move = Option<(String, String, String)>;

/// The response with its fault; `None` for no response at all.
fn faulty(fault: Option<FaultKind>, asked: &Asked, route: impl FnOnce() -> Response) -> Option<(Response, Move)> {
    let mut asked_range = asked.range;
    let mut moved = None;
    let response = match fault {
        Some(FaultKind::Drop) => return None,
        Some(FaultKind::Status(status, headers)) => {
            let response = Response::new(status, Vec::new());
            return Some((headers.iter().fold(response, |response, (name, value)| response.with(name, value)), None));
        }
        Some(FaultKind::Body(body)) => return Some((Response::new(200, body), None)),
        Some(FaultKind::EndlessPages(body)) => {
            let next = format!("<{}>; rel=\"next\"", asked.target);
            return Some((Response::new(200, body).with("link", next), None));
        }
        Some(FaultKind::RedirectLoop) => {
            return Some((Response::new(302, Vec::new()).with("location", asked.target.clone()), None));
        }
        Some(FaultKind::Redirect(to)) => return Some((Response::new(302, Vec::new()).with("location", to), None)),
        Some(FaultKind::Cut(bytes)) => {
            let response = route();
            if response.status == 200 { Response { cut: Some(bytes), ..response } } else { response }
        }
        Some(FaultKind::Stall(bytes, stall)) => Response { cut: Some(bytes), stall, ..route() },
        Some(FaultKind::Longer(bytes)) => {
            let response = route();
            let mut body = response.body.to_vec();
            body.extend(vec![7; bytes]);
            asked_range = None;
            Response { end: body.len(), body: Arc::new(body), ..response }
        }
        Some(FaultKind::Shorter(bytes)) => {
            let response = route();
            asked_range = None;
            Response { end: response.end.saturating_sub(bytes), ..response }
        }
        Some(FaultKind::WrongByte) => {
            let response = route();
            let mut body = response.body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            Response { body: Arc::new(body), ..response }
        }
        Some(FaultKind::NoRanges) => {
            asked_range = None;
            route()
        }
        Some(FaultKind::WrongRange) => {
            asked_range = asked.range.map(|(start, last)| (start / 2, last));
            route()
        }
        Some(FaultKind::MoveBranch { repo, branch, commit }) => {
            moved = Some((repo, branch, commit));
            route()
        }
        None => route(),
    };
    Some((in_range(response, asked_range), moved))
}

/// The part of a response that is in the range.
fn in_range(mut response: Response, range: Option<(u64, Option<u64>)>) -> Response {
    let (Some((start, last)), 200) = (range, response.status) else { return response };
    if response.headers.iter().any(|(name, _)| name == "content-type") {
        return response;
    }
    let size = response.body.len();
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    if start >= size {
        return Response::new(416, Vec::new()).with("content-range", format!("bytes */{size}"));
    }
    let last = last.and_then(|last| usize::try_from(last).ok()).unwrap_or(usize::MAX).min(size - 1);
    response.status = 206;
    (response.start, response.end) = (start, (last + 1).max(start));
    response.with("content-range", format!("bytes {start}-{last}/{size}"))
}
