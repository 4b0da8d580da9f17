//! One contender as a process: its output, its time and its peak memory, within a time limit.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Most characters of a reason that end up in the report.
const REASON: usize = 240;

#[derive(Debug)]
pub struct Finished {
    pub stdout: String,
    /// From the start of the process to its end.
    pub seconds: f64,
    /// `VmHWM`; a peak in the last 20 ms of the process may be missing.
    pub peak_resident_bytes: Option<f64>,
}

/// Runs `command` to its end with its output in `LOG.out` and `LOG.err`. An error is one line for the report.
pub fn run(mut command: Command, log: &Path, limit: Duration) -> Result<Finished, String> {
    let (out, err) = (log.with_extension("out"), log.with_extension("err"));
    let create =
        |path: &Path| File::create(path).map_err(|error| format!("{} cannot be made: {error}", path.display()));
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let start = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let (status, peak_resident_bytes) = wait(&mut child, start, limit)?;
    let seconds = start.elapsed().as_secs_f64();
    let stdout = fs::read(&out).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    if !status.success() {
        let stderr = fs::read(&err).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        return Err(format!("it failed ({status}): {}", last_line(&stderr).or(last_line(&stdout)).unwrap_or_default()));
    }
    Ok(Finished { stdout, seconds, peak_resident_bytes })
}

/// Looks at the process every millisecond at first, because some take few, and at its memory every 20.
fn wait(child: &mut Child, start: Instant, limit: Duration) -> Result<(ExitStatus, Option<f64>), String> {
    let (mut peak, mut looked) = (None, start);
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok((status, peak));
        }
        if start.elapsed() > limit {
            // Both fail only if it has just ended.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it took more than {} s", limit.as_secs()));
        }
        if peak.is_none() || looked.elapsed() >= Duration::from_millis(20) {
            peak = peak_resident_bytes(child.id()).or(peak);
            looked = Instant::now();
        }
        let is_young = start.elapsed() < Duration::from_secs(1);
        thread::sleep(Duration::from_millis(if is_young { 1 } else { 20 }));
    }
}

fn peak_resident_bytes(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// The last line with something in it, shortened.
fn last_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().take(REASON).collect())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Finished, String> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, &directory.path().join("x.1"), limit)
    }

    #[test]
    fn output_and_time_are_kept() {
        let finished = shell("sleep 0.05; echo hello; echo noise >&2", Duration::from_secs(60)).unwrap();
        assert_eq!(finished.stdout, "hello\n");
        assert!(finished.seconds >= 0.05);
    }

    #[test]
    fn failures_name_their_last_line() {
        let error =
            shell("echo Traceback >&2; echo 'ImportError: no torch' >&2; echo >&2; exit 3", Duration::from_secs(60));
        let error = error.unwrap_err();
        assert!(error.contains("exit status: 3") && error.ends_with("ImportError: no torch"), "{error}");
        let error = run(Command::new("/nowhere/at/all"), Path::new("/tmp/../nowhere/x"), Duration::from_secs(1));
        assert!(error.unwrap_err().contains("cannot be"));
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let start = Instant::now();
        let error = shell("exec sleep 60", Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("more than") && start.elapsed() < Duration::from_secs(30), "{error}");
    }
}
