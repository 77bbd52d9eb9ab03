//! Twenty-one ways to block a worker, each for about as long as asked.

#![expect(clippy::disallowed_methods, reason = "blocking the worker is what these are for")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, RwLock, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) block: fn(Duration),
    /// The calls that a right culprit names; none for a computation.
    pub(crate) calls: &'static [&'static str],
}

pub(crate) const ALL: &[Bad] = &[
    Bad { name: "sleep", block: sleep, calls: &["clock_nanosleep", "nanosleep"] },
    Bad { name: "park", block: thread::park_timeout, calls: &["futex"] },
    Bad { name: "mutex", block: mutex, calls: &["futex"] },
    Bad { name: "rwlock", block: rwlock, calls: &["futex"] },
    Bad { name: "condvar", block: condvar, calls: &["futex"] },
    Bad { name: "channel", block: channel, calls: &["futex"] },
    Bad { name: "join", block: join, calls: &["futex"] },
    Bad { name: "block_on", block: block_on, calls: &["futex"] },
    Bad { name: "spin", block: spin, calls: &[] },
    Bad { name: "hashing", block: hashing, calls: &[] },
    Bad { name: "sorting", block: sorting, calls: &[] },
    Bad { name: "fifo open", block: fifo, calls: &["openat", "open"] },
    Bad { name: "pipe read", block: pipe, calls: &["read"] },
    Bad { name: "pipe write", block: pipe_write, calls: &["write"] },
    Bad { name: "output()", block: output, calls: &["poll", "ppoll", "read", "wait4", "waitid"] },
    Bad { name: "child wait", block: child, calls: &["wait4", "waitid"] },
    Bad { name: "udp receive", block: udp, calls: &["recvfrom"] },
    Bad { name: "tcp accept", block: accept, calls: &["accept4", "accept"] },
    Bad { name: "tcp read", block: tcp, calls: &["recvfrom", "read"] },
    Bad { name: "flock", block: flock, calls: &["flock"] },
    Bad { name: "poll", block: poll_for, calls: &["poll", "ppoll"] },
    Bad { name: "20 naps", block: naps, calls: &["clock_nanosleep", "nanosleep"] },
    Bad { name: "kill poll", block: kill_poll, calls: &["clock_nanosleep", "nanosleep"] },
];

/// Runs `later` on a thread of its own, `block` after the calling thread was seen asleep. On a busy machine the caller
/// might else come late to its own block.
fn after(block: Duration, later: impl FnOnce() + Send + 'static) {
    let stat = format!("/proc/self/task/{}/stat", nix::unistd::gettid());
    let (ready, running) = mpsc::channel();
    thread::spawn(move || {
        ready.send(()).expect("somebody waits");
        while !is_asleep(&stat) {
            sleep(Duration::from_millis(1));
        }
        sleep(block);
        later();
    });
    running.recv().expect("a thread that runs");
    // From here to its block the caller does not sleep, but may have to wait for a CPU.
    thread::yield_now();
}

fn is_asleep(stat: &str) -> bool {
    let stat = std::fs::read_to_string(stat).expect("a living thread");
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['S', 'D']))
}

fn mutex(block: Duration) {
    let mutex = Arc::new(Mutex::new(()));
    let guard = Arc::clone(&mutex);
    let (hold, held) = mpsc::channel();
    let (let_go, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _guard = guard.lock().expect("never poisoned");
        hold.send(()).expect("somebody waits");
        let _ = end.recv();
    });
    held.recv().expect("the lock is held");
    after(block, move || drop(let_go));
    drop(mutex.lock().expect("never poisoned"));
}

fn rwlock(block: Duration) {
    let lock = Arc::new(RwLock::new(()));
    let guard = Arc::clone(&lock);
    let (hold, held) = mpsc::channel();
    let (let_go, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _guard = guard.read().expect("never poisoned");
        hold.send(()).expect("somebody waits");
        let _ = end.recv();
    });
    held.recv().expect("the lock is held");
    after(block, move || drop(let_go));
    drop(lock.write().expect("never poisoned"));
}

fn condvar(block: Duration) {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let guard = mutex.lock().expect("never poisoned");
    let until = Instant::now() + block;
    let mut guard = Some(guard);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        guard = Some(condvar.wait_timeout(guard.take().expect("held"), left).expect("never poisoned").0);
    }
}

fn channel(block: Duration) {
    let (sender, receiver) = mpsc::channel();
    after(block, move || {
        let _ = sender.send(());
    });
    receiver.recv().expect("a word");
}

fn join(block: Duration) {
    thread::spawn(move || sleep(block)).join().expect("no panic");
}

fn block_on(block: Duration) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    after(block, move || {
        let _ = sender.send(());
    });
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut receiver = std::pin::pin!(receiver);
    while receiver.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
}

/// CPU time of the calling thread.
pub(crate) fn cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

pub(crate) fn spin(block: Duration) {
    let begun = cpu();
    while cpu() - begun < block {
        std::hint::spin_loop();
    }
}

fn hashing(block: Duration) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let (begun, mut hasher) = (cpu(), DefaultHasher::new());
    while cpu() - begun < block {
        for number in 0..1000 {
            number.hash(&mut hasher);
        }
    }
    std::hint::black_box(hasher.finish());
}

fn sorting(block: Duration) {
    let begun = cpu();
    while cpu() - begun < block {
        let mut numbers: Vec<u32> = (0..2000u32).map(|number| number.wrapping_mul(2_654_435_761)).collect();
        numbers.sort_unstable();
        std::hint::black_box(numbers);
    }
}

fn fifo(block: Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let theirs = path.clone();
    after(block, move || drop(std::fs::OpenOptions::new().write(true).open(theirs)));
    drop(std::fs::File::open(path).expect("a writer"));
}

fn pipe_ends() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    (reader.into(), writer.into())
}

fn pipe(block: Duration) {
    let (mut reader, mut writer) = pipe_ends();
    after(block, move || writer.write_all(b"x").expect("a reader"));
    reader.read_exact(&mut [0]).expect("a writer");
}

fn pipe_write(block: Duration) {
    let (mut reader, mut writer) = pipe_ends();
    after(block, move || drop(reader.read_exact(&mut vec![0; 100_000])));
    writer.write_all(&[0; 100_000]).expect("a reader");
}

/// A child that ends when its standard input does: once the caller has waited long enough for it.
fn cat(block: Duration) -> Child {
    let piped = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = piped.expect("cat(1)");
    let stdin = child.stdin.take();
    after(block, move || drop(stdin));
    child
}

fn output(block: Duration) {
    cat(block).wait_with_output().expect("our child");
}

fn child(block: Duration) {
    cat(block).wait().expect("our child");
}

fn udp(block: Duration) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(block)).expect("a timeout");
    let _ = socket.recv(&mut [0]);
}

fn accept(block: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    after(block, move || drop(TcpStream::connect(address)));
    listener.accept().expect("a guest");
}

fn tcp(block: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a peer");
    let (mut far, _) = listener.accept().expect("a guest");
    after(block, move || far.write_all(b"x").expect("a reader"));
    near.read_exact(&mut [0]).expect("a writer");
}

fn flock(block: Duration) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let open = || std::fs::File::open(file.path()).expect("the file");
    let held = Flock::lock(open(), FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("nobody has it");
    after(block, move || drop(held));
    drop(Flock::lock(open(), FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("it is let go"));
}

fn poll_for(block: Duration) {
    let (reader, _writer) = pipe_ends();
    let millis = u16::try_from(block.as_millis()).expect("not long");
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(millis)).expect("a timeout");
}

fn naps(block: Duration) {
    for _ in 0..20 {
        sleep(block / 20);
    }
}

/// The bug that started it all: signal 0, sleep, again.
fn kill_poll(block: Duration) {
    for _ in 0..10 {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), None);
        sleep(block / 10);
    }
}
