use std::time::Instant;

use tokio::time::timeout;

use super::*;

/// How long an expected event may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to watch for an event that must not happen.
const MOMENT: Duration = Duration::from_millis(100);

/// A server that sends every byte back, and closes a connection when its client does.
async fn echo() -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    (address, AbortOnDropHandle::new(server))
}

async fn proxied() -> (Proxy, TcpStream, AbortOnDropHandle<()>) {
    let (upstream, server) = echo().await;
    let proxy = Proxy::start(upstream).unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut client, b'0').await.unwrap(), b'0');
    (proxy, client, server)
}

async fn ask(client: &mut TcpStream, byte: u8) -> io::Result<u8> {
    client.write_u8(byte).await?;
    timeout(PATIENCE, client.read_u8()).await?
}

async fn is_silent(client: &mut TcpStream) -> bool {
    timeout(MOMENT, client.read_u8()).await.is_err()
}

#[tokio::test]
async fn data_that_a_fault_held_back_passes_once_the_proxy_is_healed() {
    for fault in [Fault::Stalled, Fault::AnswersCut, Fault::RequestsCut] {
        let (proxy, mut client, _server) = proxied().await;
        proxy.fail(fault);
        client.write_u8(b'1').await.unwrap();
        assert!(is_silent(&mut client).await, "{fault:?}");
        let mut another = TcpStream::connect(proxy.address()).await.unwrap();
        another.write_u8(b'2').await.unwrap();
        assert!(is_silent(&mut another).await, "{fault:?}");
        proxy.heal();
        assert_eq!(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap(), b'1', "{fault:?}");
        assert_eq!(timeout(PATIENCE, another.read_u8()).await.unwrap().unwrap(), b'2', "{fault:?}");
    }
}

#[tokio::test]
async fn a_cut_in_one_direction_leaves_the_other_direction_intact() {
    for (fault, arrives) in [(Fault::AnswersCut, true), (Fault::RequestsCut, false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_u8(b'1').await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'1');

        proxy.fail(fault);
        client.write_u8(b'2').await.unwrap();
        server.write_u8(b'3').await.unwrap();
        let (held_back, passes) = if arrives { (&mut client, &mut server) } else { (&mut server, &mut client) };
        assert_eq!(timeout(PATIENCE, passes.read_u8()).await.unwrap().unwrap(), if arrives { b'2' } else { b'3' });
        assert!(is_silent(held_back).await, "{fault:?}");
    }
}

#[tokio::test]
async fn a_delay_applies_to_the_request_and_to_the_answer() {
    let (proxy, mut client, _server) = proxied().await;
    proxy.fail(Fault::Delayed(MOMENT));
    let asked = Instant::now();
    assert_eq!(ask(&mut client, b'1').await.unwrap(), b'1');
    assert!(asked.elapsed() >= MOMENT * 2, "the delay applies once to the request and once to the answer");
}

#[tokio::test]
async fn a_reset_closes_open_connections_even_if_the_proxy_is_healed_at_once() {
    for fault in [Fault::Reset, Fault::Rejected] {
        let (proxy, mut client, _server) = proxied().await;
        proxy.fail(fault);
        proxy.heal();
        let ended = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset, "{fault:?}");
        // The proxy may not listen again yet.
        let again = async {
            loop {
                let Ok(mut client) = TcpStream::connect(proxy.address()).await else { continue };
                if let Ok(answer) = ask(&mut client, b'1').await {
                    return answer;
                }
            }
        };
        assert_eq!(timeout(PATIENCE, again).await.unwrap(), b'1');
    }
}

#[tokio::test]
async fn new_connections_are_reset_during_a_reset_and_refused_during_a_rejection() {
    let (proxy, mut client, _server) = proxied().await;
    proxy.fail(Fault::Reset);
    assert!(timeout(PATIENCE, client.read_u8()).await.unwrap().is_err());
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    let ended = timeout(PATIENCE, new.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);

    proxy.fail(Fault::Rejected);
    let refused = async {
        loop {
            match TcpStream::connect(proxy.address()).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn when_one_side_closes_a_connection_the_other_side_sees_it() {
    let (_proxy, mut client, _server) = proxied().await;
    client.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, client.read(&mut [0; 8])).await.unwrap().unwrap(), 0);

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    drop(timeout(PATIENCE, listener.accept()).await.unwrap().unwrap());
    assert_eq!(timeout(PATIENCE, client.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
}
