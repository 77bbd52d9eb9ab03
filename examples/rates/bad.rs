//! Some fifty ways to block a worker, each for about as long as asked.

#![expect(clippy::disallowed_methods, reason = "blocking the worker is what these are for")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, mpsc};
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

impl Bad {
    /// Whether a doubt is right where the machine is busy: what was waited for is then partly the machine's doing.
    pub(crate) fn may_be_doubted(&self) -> bool {
        self.name == YIELD_SPIN
    }
}

const YIELD_SPIN: &str = "sched_yield spin";

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
    Bad { name: "barrier", block: barrier, calls: &["futex"] },
    Bad { name: "full channel", block: full_channel, calls: &["futex"] },
    Bad { name: "recv_timeout", block: recv_timeout, calls: &["futex"] },
    Bad { name: "lazy value", block: once, calls: &["futex"] },
    Bad { name: "scope", block: scope, calls: &["futex"] },
    Bad { name: "fifo read", block: fifo_read, calls: &["read"] },
    Bad { name: "unix read", block: unix_read, calls: &["read", "recvfrom"] },
    Bad { name: "unix accept", block: unix_accept, calls: &["accept4", "accept"] },
    Bad { name: "tcp write", block: tcp_write, calls: &["write", "sendto"] },
    Bad { name: "epoll by hand", block: epoll, calls: &["epoll_wait", "epoll_pwait"] },
    Bad { name: "select", block: select, calls: &["select", "pselect6"] },
    Bad { name: "eventfd read", block: eventfd, calls: &["read"] },
    Bad { name: "waitid", block: waitid_for, calls: &["waitid"] },
    Bad { name: "fcntl lock", block: fcntl_lock, calls: &["fcntl"] },
    Bad { name: "status() in a row", block: statuses, calls: &["wait4", "waitid", "clone3", "clone", "vfork", "read"] },
    Bad { name: "urandom", block: urandom, calls: &[] },
    Bad { name: "short calls", block: short_calls, calls: &[] },
    Bad { name: "copying", block: copying, calls: &[] },
    Bad { name: "touching memory", block: touching, calls: &[] },
    Bad { name: "spin and sleep", block: spin_and_sleep, calls: &["clock_nanosleep", "nanosleep"] },
    Bad { name: "lingering close", block: lingering_close, calls: &["close"] },
    Bad { name: "lock of a sleeper", block: lock_of_a_sleeper, calls: &["futex"] },
    Bad { name: YIELD_SPIN, block: yield_spin, calls: &[] },
    Bad { name: "kill poll", block: kill_poll, calls: &["clock_nanosleep", "nanosleep"] },
];

/// Runs `later` on a thread of its own, `block` after the calling thread was seen asleep. On a busy machine the caller
/// might else come late to its own block.
fn after(block: Duration, later: impl FnOnce() + Send + 'static) {
    let stat = format!("/proc/self/task/{}/stat", nix::unistd::gettid());
    let (ready, running) = mpsc::channel();
    thread::spawn(move || {
        ready.send(()).expect("a receiver");
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
        hold.send(()).expect("a receiver");
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
        hold.send(()).expect("a receiver");
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
    let held = Flock::lock(open(), FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("no other holder");
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

/// A socket whose peer does not read what is left to send.
fn lingering_close(block: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a peer");
    let (far, _) = listener.accept().expect("a guest");
    rustix::net::sockopt::set_socket_linger(&near, Some(Duration::from_secs(60))).expect("a socket");
    near.set_nonblocking(true).expect("a socket");
    while near.write(&[0; 65_536]).is_ok() {}
    // A close does not linger on a socket that does not block.
    near.set_nonblocking(false).expect("a socket");
    after(block, move || drop(far));
    drop(near);
}

/// The thread that holds the lock sleeps, from when the caller waits for it.
fn lock_of_a_sleeper(block: Duration) {
    let stat = format!("/proc/self/task/{}/stat", nix::unistd::gettid());
    let (lock, (hold, held), (go, begun)) = (Arc::new(Mutex::new(())), mpsc::channel(), mpsc::channel());
    let theirs = Arc::clone(&lock);
    thread::spawn(move || {
        let _guard = theirs.lock().expect("never poisoned");
        hold.send(()).expect("the caller waits");
        begun.recv().expect("the caller is about to wait for the lock");
        while !is_asleep(&stat) {
            sleep(Duration::from_millis(1));
        }
        sleep(block);
    });
    held.recv().expect("the lock is held");
    go.send(()).expect("a holder");
    drop(lock.lock().expect("never poisoned"));
}

/// As a spin lock backs off. Beside others that want the CPU each turn is a long wait.
fn yield_spin(block: Duration) {
    let (begun, mut turns) = (Instant::now(), 0);
    while begun.elapsed() < block || turns < 16 {
        thread::yield_now();
        turns += 1;
    }
}

fn barrier(block: Duration) {
    let barrier = Arc::new(Barrier::new(2));
    let theirs = Arc::clone(&barrier);
    after(block, move || {
        theirs.wait();
    });
    barrier.wait();
}

fn full_channel(block: Duration) {
    let (sender, receiver) = mpsc::sync_channel(1);
    sender.send(1).expect("room");
    after(block, move || while receiver.recv().is_ok() {});
    sender.send(2).expect("a receiver");
}

fn recv_timeout(block: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    receiver.recv_timeout(block).expect_err("no sender");
}

/// Another thread is at it already.
fn once(block: Duration) {
    let value = Arc::new(OnceLock::new());
    let theirs = Arc::clone(&value);
    let (begin, begun) = mpsc::channel();
    let (let_go, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        theirs.get_or_init(|| {
            begin.send(()).expect("a receiver");
            let _ = end.recv();
        });
    });
    begun.recv().expect("it is at it");
    after(block, move || drop(let_go));
    value.get_or_init(|| ());
}

fn scope(block: Duration) {
    thread::scope(|scope| {
        scope.spawn(|| sleep(block));
    });
}

fn fifo_read(block: Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let mut fifo = File::options().read(true).write(true).open(&path).expect("the fifo");
    after(block, move || {
        File::options().write(true).open(path).and_then(|mut fifo| fifo.write_all(b"x")).expect("a reader");
    });
    fifo.read_exact(&mut [0]).expect("a writer");
}

fn unix_read(block: Duration) {
    let (mut near, mut far) = UnixStream::pair().expect("a pair");
    after(block, move || far.write_all(b"x").expect("a reader"));
    near.read_exact(&mut [0]).expect("a writer");
}

fn unix_accept(block: Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    after(block, move || drop(UnixStream::connect(path)));
    listener.accept().expect("a guest");
}

fn tcp_write(block: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a peer");
    let (far, _) = listener.accept().expect("a guest");
    // Until the kernel takes no more.
    near.set_nonblocking(true).expect("a socket");
    while near.write(&[0; 65_536]).is_ok() {}
    near.set_nonblocking(false).expect("a socket");
    after(block, move || drop(far));
    let _ = near.write_all(&[0; 1 << 20]);
}

fn epoll(block: Duration) {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollTimeout};
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
    let millis = u16::try_from(block.as_millis()).expect("not long");
    let mut events = [nix::sys::epoll::EpollEvent::empty()];
    epoll.wait(&mut events, EpollTimeout::from(millis)).expect("a timeout");
}

fn select(block: Duration) {
    use nix::sys::time::{TimeVal, TimeValLike};
    let mut long = TimeVal::milliseconds(i64::try_from(block.as_millis()).expect("not long"));
    nix::sys::select::select(None, None, None, None, &mut long).expect("a timeout");
}

fn eventfd(block: Duration) {
    let event = Arc::new(nix::sys::eventfd::EventFd::new().expect("an eventfd"));
    let theirs = Arc::clone(&event);
    after(block, move || {
        theirs.write(1).expect("room");
    });
    event.read().expect("a number");
}

fn waitid_for(block: Duration) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let mut child = cat(block);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("our child");
    child.wait().expect("our child");
}

/// Of an open file description: this process is no stranger to itself otherwise.
fn fcntl_lock(block: Duration) {
    use nix::fcntl::{FcntlArg, fcntl};
    let file = tempfile::NamedTempFile::new().expect("a file");
    let open = || File::options().read(true).write(true).open(file.path()).expect("the file");
    let lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let (held, wanted) = (open(), open());
    fcntl(&held, FcntlArg::F_OFD_SETLK(&lock)).expect("no other holder");
    after(block, move || drop(held));
    fcntl(&wanted, FcntlArg::F_OFD_SETLKW(&lock)).expect("it is let go");
}

/// On a busy machine the caller itself waits for a CPU most of the time.
fn statuses(block: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < block * 3 {
        Command::new("true").status().expect("true(1)");
    }
}

fn urandom(block: Duration) {
    let (begun, mut bytes) = (cpu(), vec![0; 65_536]);
    let mut random = File::open("/dev/urandom").expect("random numbers");
    while cpu() - begun < block {
        random.read_exact(&mut bytes).expect("random numbers");
    }
}

fn short_calls(block: Duration) {
    let begun = cpu();
    while cpu() - begun < block {
        for _ in 0..100 {
            std::hint::black_box(nix::unistd::getppid());
        }
    }
}

fn copying(block: Duration) {
    let (begun, from, mut to) = (cpu(), vec![1u8; 8 << 20], vec![0u8; 8 << 20]);
    while cpu() - begun < block {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to);
    }
}

fn touching(block: Duration) {
    let begun = cpu();
    while cpu() - begun < block {
        std::hint::black_box(vec![1u8; 4 << 20]);
    }
}

/// Neither of the two alone is above the budget.
fn spin_and_sleep(block: Duration) {
    for _ in 0..10 {
        spin(block / 30);
        sleep(block / 10 - block / 30);
    }
}
