//! `close(2)` frees the number of its descriptor before it blocks: by then it may be another file's, which is not to
//! blame.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use deadbeat::heartbeat::Flavor;

use crate::support::{LONG, block, spawned, starved};

/// A socket that lingers when it is closed, until its peer is gone.
fn lingers() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&near, Some(Duration::from_secs(60))).unwrap();
    near.set_nonblocking(true).unwrap();
    while near.write(&[0; 65_536]).is_ok() {}
    near.set_nonblocking(false).unwrap();
    (near, far)
}

#[test]
fn a_close_that_lingers_is_caught_and_names_no_file() {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
        let pulse = starved(|| {
            let (near, far) = lingers();
            spawned(flavor, || async move {
                std::thread::spawn(move || {
                    block(LONG);
                    drop(far);
                });
                drop(near);
            })
        });
        let culprit = pulse.worst().unwrap().culprit.clone().unwrap();
        assert_eq!((culprit.syscall.as_deref(), culprit.detail), (Some("close"), None), "\n{pulse}");
    }
}
