//! Who asks over HTTP: what they get, and that nobody who misbehaves keeps others from it.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Fine;

impl Watched for Fine {
    async fn figures(&self) -> Option<String> {
        Some("# TYPE up gauge\nup 1\n".to_owned())
    }

    async fn fault(&self) -> Option<&'static str> {
        None
    }
}

async fn serving(deadline: Duration) -> SocketAddr {
    let monitor = Monitor::listen("127.0.0.1:0".parse().expect("local")).await.expect("listens");
    let monitor = Monitor { deadline, ..monitor };
    let address = monitor.listener.local_addr().expect("bound");
    tokio::spawn(monitor.serve(Arc::new(Fine)));
    address
}

/// The status line and the body of the answer to a request as it stands.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    // An end without an answer may also be a reset.
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test]
async fn figures_and_health_are_read_and_nothing_else_is_done() {
    let address = serving(CONNECTION_DEADLINE).await;
    for (request, status, body) in [
        ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", "200", "# TYPE up gauge\nup 1\n"),
        ("GET /metrics?x HTTP/1.1\r\nHost: localhost\r\n\r\n", "200", "# TYPE up gauge\nup 1\n"),
        ("HEAD /metrics HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", "200", ""),
        ("GET /health HTTP/1.0\r\n\r\n", "200", "{\"schema\":1,\"type\":\"health\",\"ok\":true,\"reason\":null}\n"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", "there are /metrics and /health\n"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421", "ask by address, or as localhost\n"),
        ("GET /metrics HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "421", "ask by address, or as localhost\n"),
        (
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
            "405",
            "there is only something to read\n",
        ),
        ("what is this\r\n\r\n", "400", ""),
    ] {
        let (line, said) = ask(address, request).await;
        assert_eq!((line.split(' ').nth(1), said.as_str()), (Some(status), body), "{request}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let (line, _) = ask(address, &long).await;
    assert!(line.is_empty() || line.contains(" 431 "), "{line}");
}

#[tokio::test]
async fn who_says_nothing_is_hung_up_on_and_others_get_their_place() {
    let address = serving(CONNECTION_DEADLINE / 20).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(b"GET /metrics HTT").await.expect("writes");
        silent.push(stream);
    }
    for mut stream in silent {
        assert!(!matches!(stream.read(&mut [0; 16]).await, Ok(1..)), "no answer to half a question");
    }
    let others = async {
        while !ask(address, "GET /health HTTP/1.0\r\n\r\n").await.0.contains(" 200 ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(6 * CONNECTION_DEADLINE, others).await.expect("the places are free again");
}

#[test]
fn only_this_machine_is_listened_to() {
    for text in ["127.0.0.1:0", "127.9.9.9:9101", "[::1]:9101"] {
        assert_eq!(text.parse::<LocalAddress>().expect("local").to_string(), text);
    }
    for text in ["0.0.0.0:9101", "[::]:9101", "192.0.2.1:1", "localhost:9101", "9101", ""] {
        assert!(text.parse::<LocalAddress>().is_err(), "{text}");
    }
}
