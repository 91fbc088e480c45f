//! The servers that a connection string names.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::PathBuf;

use super::UrlError;
use crate::uri;

/// Port of a server unless another is named.
const PORT: u16 = 5432;

/// Folders of Unix sockets where no host is named: the ones of Debian's and of the original build of `PostgreSQL`.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// First part of the name of a Unix socket; its port follows.
const SOCKET: &str = ".s.PGSQL.";

/// Address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Server {
    /// A name or an address, which the certificate of the server has to be for, and its port.
    Tcp {
        name: String,
        /// Address to connect to instead of the name's.
        address: Option<IpAddr>,
        port: u16,
    },
    /// A Unix socket.
    Unix { folder: PathBuf, port: u16 },
}

impl Server {
    /// Returns whether it is on this machine.
    pub(in crate::store) fn is_local(&self) -> bool {
        match self {
            Server::Tcp { address: Some(address), .. } => address.is_loopback(),
            Server::Tcp { name, .. } => uri::is_loopback(name),
            Server::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Tcp { name, port, .. } => f.write_str(&uri::place(name, *port)),
            Server::Unix { folder, port } => {
                write!(f, "{}", folder.join(format!("{SOCKET}{port}")).display())
            }
        }
    }
}

/// Returns the servers of three lists, whose entries are separated by commas.
pub(super) fn parse(hosts: &str, addresses: &str, ports: &str) -> Result<Vec<Server>, UrlError> {
    let list = |text: &str| -> Vec<String> {
        if text.is_empty() { Vec::new() } else { text.split(',').map(|one| one.trim().to_owned()).collect() }
    };
    let (hosts, addresses) = (list(hosts), list(addresses));
    let count = hosts.len().max(addresses.len()).max(1);
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(UrlError::Servers("another number of hostaddr than of hosts"));
    }
    let ports = self::ports(&list(ports), count)?;
    let mut servers = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let address = match addresses.get(at).filter(|address| !address.is_empty()) {
            Some(address) => Some(address.parse::<IpAddr>().map_err(|_| {
                UrlError::Value("hostaddr", "an IP address for each host, such as 192.0.2.1")
            })?),
            None => None,
        };
        let host = hosts.get(at).map(String::as_str).unwrap_or_default();
        servers.extend(server(host, address, *port)?);
    }
    Ok(servers)
}

fn ports(ports: &[String], count: usize) -> Result<Vec<Option<u16>>, UrlError> {
    if ports.len() > 1 && ports.len() != count {
        return Err(UrlError::Servers("another number of ports than of hosts"));
    }
    let number = |port: &String| match port.as_str() {
        "" => Ok(None),
        port => match port.parse() {
            Ok(0) | Err(_) => Err(UrlError::Value("port", "a number from 1 to 65535, such as 5432")),
            Ok(port) => Ok(Some(port)),
        },
    };
    let ports: Vec<_> = ports.iter().map(number).collect::<Result<_, _>>()?;
    Ok(match ports.as_slice() {
        [] => vec![None; count],
        [port] => vec![*port; count],
        _ => ports,
    })
}

fn server(host: &str, address: Option<IpAddr>, port: Option<u16>) -> Result<Vec<Server>, UrlError> {
    let or_default = port.unwrap_or(PORT);
    if host.is_empty() {
        let Some(address) = address else {
            let unix = |folder: &&str| Server::Unix { folder: (*folder).into(), port: or_default };
            return Ok(SOCKET_FOLDERS.iter().map(unix).collect());
        };
        return Ok(vec![Server::Tcp { name: address.to_string(), address: Some(address), port: or_default }]);
    }
    if host.starts_with('@') {
        return Err(UrlError::Servers("an abstract Unix socket, where the folder of a socket is needed"));
    }
    if host.starts_with('/') {
        // Some platforms print the path of the socket instead of its folder's.
        let (folder, named) = match host.rsplit_once('/') {
            Some((folder, file)) if file.starts_with(SOCKET) => (folder, file[SOCKET.len()..].parse().ok()),
            _ => (host, None),
        };
        return Ok(vec![Server::Unix { folder: folder.into(), port: named.unwrap_or(or_default) }]);
    }
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // In a query SQLAlchemy has the port beside the host.
    let (name, own) = match unbracketed.rsplit_once(':') {
        Some((name, own)) if !name.contains(':') || name.ends_with(']') => {
            let own = own.parse().map_err(|_| UrlError::Value("port", "a number, such as 5432"))?;
            (name.trim_matches(['[', ']']), Some(own))
        }
        _ => (unbracketed, None),
    };
    Ok(vec![Server::Tcp { name: name.to_owned(), address, port: own.unwrap_or(or_default) }])
}

/// Puts the servers into a random order.
pub(super) fn shuffle(servers: &mut [Server]) {
    servers.sort_by_cached_key(|server| RandomState::new().hash_one(server.to_string()));
}
