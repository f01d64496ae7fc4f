//! Client and agent together on this machine, over a real TCP connection.

use std::io::{Cursor, Read};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::run;
use crate::client::{ExecError, Limits, Streams, exec};
use crate::frame::{Request, WindowSize};

const LIMITS: Limits = Limits { total: Duration::from_secs(20), silence: Duration::from_secs(20) };

struct Outcome {
    code: Result<i32, ExecError>,
    output: Vec<u8>,
    error: Vec<u8>,
}

impl Outcome {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

fn shell(script: &str) -> Request {
    Request {
        token: "secret".to_owned(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: Some("/".to_owned()),
        ..Request::default()
    }
}

/// A connection whose other end a session serves.
fn connect() -> (TcpStream, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (served, _) = listener.accept().unwrap();
    (stream, thread::spawn(move || run(&served, "secret")))
}

fn carry_out(request: &Request, input: Option<Vec<u8>>, limits: Limits) -> Outcome {
    let (stream, session) = connect();
    let input = input.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn Read + Send>);
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let streams = Streams { input, output: &mut output, error: &mut error };
    let code = exec(&stream, request, streams, limits);
    // An early end of the connection is an error to the session, by design.
    let _ = session.join().unwrap();
    Outcome { code, output, error }
}

#[test]
fn output_error_and_exit_code_come_back() {
    let outcome = carry_out(&shell("echo out; echo err >&2; exit 7"), None, LIMITS);
    assert_eq!(outcome.code.unwrap(), 7);
    assert_eq!((&outcome.output[..], &outcome.error[..]), (&b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn a_killing_signal_is_128_and_its_number() {
    assert_eq!(carry_out(&shell("kill -9 $$"), None, LIMITS).code.unwrap(), 137);
}

#[test]
fn megabytes_pass_both_ways_without_loss() {
    let data: Vec<u8> = (0..8_000_000u32).map(|index| index.to_le_bytes()[1]).collect();
    let outcome = carry_out(&shell("cat"), Some(data.clone()), LIMITS);
    assert_eq!(outcome.code.unwrap(), 0);
    assert!(outcome.output == data);
}

#[test]
fn input_that_nobody_reads_does_not_block_the_end() {
    let outcome = carry_out(&shell("exit 3"), Some(vec![0; 4_000_000]), LIMITS);
    assert_eq!(outcome.code.unwrap(), 3);
}

#[test]
fn background_children_do_not_delay_the_end() {
    let limits = Limits { total: Duration::from_secs(4), ..LIMITS };
    let outcome = carry_out(&shell("sleep 5 & echo $!"), None, limits);
    assert_eq!(outcome.code.as_ref().ok(), Some(&0));
    assert!(outcome.text().trim().parse::<u32>().is_ok());
}

#[test]
fn a_terminal_has_the_requested_size() {
    let mut request = shell("tty >/dev/null && stty size");
    request.terminal = Some(WindowSize { rows: 33, columns: 99 });
    let outcome = carry_out(&request, None, LIMITS);
    assert_eq!(outcome.code.as_ref().ok(), Some(&0));
    assert_eq!(outcome.text().trim(), "33 99");
}

#[test]
fn a_time_limit_kills_the_command() {
    let limits = Limits { total: Duration::from_millis(500), ..LIMITS };
    let outcome = carry_out(&shell("echo $$; exec sleep 60"), None, limits);
    assert!(matches!(outcome.code, Err(ExecError::TimedOut(_))));
    // The session has been joined, so the command has been killed and reaped.
    let pid = outcome.text().trim().to_owned();
    assert!(!std::path::Path::new("/proc").join(pid).exists());
}

#[test]
fn silence_kills_the_command() {
    let limits = Limits { silence: Duration::from_millis(500), ..LIMITS };
    let outcome = carry_out(&shell("echo out; exec sleep 60"), None, limits);
    assert!(matches!(outcome.code, Err(ExecError::Silent(_))));
    assert_eq!(outcome.text(), "out\n");
}

#[test]
fn a_wrong_token_is_refused() {
    let mut request = shell("true");
    request.token = "guess".to_owned();
    assert!(matches!(carry_out(&request, None, LIMITS).code, Err(ExecError::Refused(_))));
}

#[test]
fn a_lost_agent_is_an_error_and_no_exit_code() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let streams = Streams { input: None, output: &mut output, error: &mut error };
    let code = exec(&stream, &shell("true"), streams, LIMITS);
    assert!(matches!(code, Err(ExecError::Lost | ExecError::Send(_))));
}
