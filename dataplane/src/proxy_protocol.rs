//! The PROXY protocol, v1 and v2: what a load balancer in front says about the client. The crate `ppp` reads the header;
//! here it is only taken off the connection, to the byte.

use std::{io, net::SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::deadline::Deadline;

/// Every header has at least as many bytes.
const SHORTEST: usize = 12;
/// What every header of v1 begins with.
pub(crate) const BEGIN_V1: &[u8; 6] = b"PROXY ";
/// The longest header of v1 (its section 2.1).
const LONGEST_V1: usize = 107;
/// Signature, command, family and length of v2.
const PREFIX_V2: usize = 16;
/// The longest header of v2 that is accepted: addresses take 36 bytes at most for IP, the rest is for TLVs.
const LONGEST_V2: usize = 2048;

/// Reads the header that each connection begins with. `None`: the balancer speaks for itself (a health check), or of an
/// address that is none. Gives up when `deadline` passes.
pub(crate) async fn read(
    tcp: &mut TcpStream,
    deadline: &Deadline,
) -> io::Result<Option<SocketAddr>> {
    let header = deadline.before_request(read_header(tcp)).await?;
    client(&header)
}

/// Takes exactly the header's bytes.
async fn read_header(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = vec![0; SHORTEST];
    tcp.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        let [command, family, high, low] = read_array(tcp).await?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if PREFIX_V2 + length > LONGEST_V2 {
            return Err(invalid("the PROXY protocol header is too long"));
        }
        header.extend([command, family, high, low]);
        header.resize(PREFIX_V2 + length, 0);
        tcp.read_exact(header.get_mut(PREFIX_V2..).unwrap_or_default())
            .await?;
        return Ok(header);
    }
    if !header.starts_with(BEGIN_V1) {
        return Err(invalid("this is no PROXY protocol header"));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() >= LONGEST_V1 {
            return Err(invalid("the PROXY protocol header is too long"));
        }
        header.extend(read_array::<1>(tcp).await?);
    }
    Ok(header)
}

async fn read_array<const N: usize>(tcp: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The client's address in a header, if it has one.
fn client(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(header) => Ok(match header.map_err(malformed)?.addresses {
            v1::Addresses::Tcp4(tcp) => Some((tcp.source_address, tcp.source_port).into()),
            v1::Addresses::Tcp6(tcp) => Some((tcp.source_address, tcp.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(header) => {
            let header = header.map_err(malformed)?;
            if header.command == v2::Command::Local {
                return Ok(None);
            }
            Ok(match header.addresses {
                v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            })
        }
    }
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::deadline::Deadlines;

    /// What is read of `bytes`, and what is left on the connection.
    async fn receive(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let result = read(&mut server, &Deadlines::new().register(None)).await;
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        (result, rest)
    }

    fn v2_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        header.extend(addresses);
        header
    }

    #[tokio::test]
    async fn both_versions_are_taken_off_to_the_byte() {
        let ipv4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 80];
        let cases = [
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 80\r\n".to_vec(),
                Some("192.0.2.7:12345"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n".to_vec(),
                Some("[2001:db8::7]:12345"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2_header(1, 0x11, &ipv4), Some("192.0.2.7:12345")),
            (
                v2_header(1, 0x11, &[&ipv4[..], &[4, 0, 1, 9]].concat()),
                Some("192.0.2.7:12345"),
            ),
            (v2_header(0, 0, &[]), None),
        ];
        for (header, expected) in cases {
            let (result, rest) = receive(&[&header[..], b"GET /"].concat()).await;
            assert_eq!(
                result.unwrap(),
                expected.map(|address| address.parse().unwrap())
            );
            assert_eq!(rest, b"GET /");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
        let cases = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4\r\n".to_vec(),
            b"PROXY TCP4 nonsense x 1 2\r\n".to_vec(),
            b"PROXY".to_vec(),
            long,
            v2_header(1, 0x11, &[1, 2, 3]),
            v2_header(1, 0x11, &vec![0; 4000]),
        ];
        for header in cases {
            assert!(
                receive(&header).await.0.is_err(),
                "{}",
                header.escape_ascii()
            );
        }
    }
}
