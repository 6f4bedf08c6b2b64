//! What can go wrong with the login.

use miette::Diagnostic;
use thiserror::Error;

/// An error of copying this machine's public key to a node.
#[derive(Debug, Error, Diagnostic)]
pub enum LoginError {
    #[error("this machine's public key cannot be copied to node {node}: {cause}")]
    #[diagnostic(
        code("HALO-E0756"),
        help("is the password right, and may the user log in with one there? ssh -v shows where it stops")
    )]
    Copy { node: String, cause: String },

    #[error("node {node} has this machine's public key and still refuses the login: {cause}")]
    #[diagnostic(
        code("HALO-E0757"),
        help(
            "a key with a passphrase needs an agent (ssh-add); else sshd's log there says why: permissions of ~/.ssh, AuthorizedKeysFile, PubkeyAuthentication"
        )
    )]
    StillRefused { node: String, cause: String },

    #[error("ssh has no file for a key to node {node}")]
    #[diagnostic(
        code("HALO-E0758"),
        help(
            "every IdentityFile of ssh's configuration is a private key without its public half: ssh-keygen -y -f FILE >FILE.pub"
        )
    )]
    NoKeyFile { node: String },
}
