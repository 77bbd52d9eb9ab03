//! What every test here needs: ways to block, and patience to match.

use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Lab, Pulse, Verdict, Why};

/// Well above the default budget of 50 ms.
pub(crate) const LONG: Duration = Duration::from_millis(150);
/// Well below it.
pub(crate) const SHORT: Duration = Duration::from_millis(10);

#[expect(clippy::disallowed_methods, reason = "the known-bad control: it blocks the worker")]
pub(crate) fn block(time: Duration) {
    std::thread::sleep(time);
}

/// CPU time of the calling thread, as long as asked whatever else the machine does.
pub(crate) fn spin(time: Duration) {
    let begun = cpu_time();
    while cpu_time() - begun < time {
        std::hint::spin_loop();
    }
}

pub(crate) fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Until `done`, for a minute at most.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        block(Duration::from_millis(1));
    }
}

/// Runs a future in a lab, in a task of its own.
pub(crate) fn spawned<F, Fut>(flavor: Flavor, f: F) -> Pulse
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Lab::new(flavor).run(f).unwrap().pulse
}

/// Where the kernel keeps no schedstat, a noisy machine leaves doubt; anywhere, so do a hypervisor that took as much as
/// is charged, and this process, which starts hundreds of threads and processes meanwhile: they hold locks on its
/// memory, wait for a CPU while another waits for a lock, and come late to what they were started for, or to their
/// looks. None of this is an acquittal.
#[track_caller]
pub(crate) fn assert_starved(pulse: &Pulse) {
    match pulse.verdict() {
        Verdict::Starved => {}
        Verdict::Inconclusive { why } if saw_nothing(pulse, &why) => {}
        Verdict::Inconclusive {
            why:
                Why::Stolen { .. }
                | Why::Memory
                | Why::LockHolder { .. }
                | Why::Unobserved
                | Why::WorkerUnseen
                | Why::HandedOver { .. }
                | Why::Undecided { .. }
                | Why::Suspended { .. }
                | Why::ProcessStopped { .. },
        } => {
            assert!(pulse.worst().is_some_and(|worst| worst.charged() > pulse.budget), "\n{pulse}");
        }
        Verdict::Inconclusive { .. } if cfg!(any(not(target_os = "linux"), deadbeat_portable)) => {}
        verdict => panic!("{verdict:?}\n{pulse}"),
    }
}

/// Whether the machine kept the watch from seeing anything.
fn saw_nothing(pulse: &Pulse, why: &Why) -> bool {
    pulse.stalls.is_empty() && matches!(why, Why::Unobserved | Why::WorkerUnseen | Why::Suspended { .. })
}

/// The pulse of one that blocks, once it is seen to for certain: a doubt is looked into again, and so is a watch on a
/// machine so busy that the observer did not come to look.
#[track_caller]
pub(crate) fn starved(mut run: impl FnMut() -> Pulse) -> Pulse {
    let mut pulse = run();
    for _ in 1..5 {
        if pulse.verdict() == Verdict::Starved {
            break;
        }
        assert_starved(&pulse);
        pulse = run();
    }
    assert_eq!(pulse.verdict(), Verdict::Starved, "in five times it was never certain\n{pulse}");
    pulse
}

/// Nothing but the machine may leave a doubt, and then it is the machine that is named.
#[track_caller]
pub(crate) fn assert_steady(pulse: &Pulse) {
    match pulse.verdict() {
        Verdict::Steady => {}
        Verdict::Inconclusive { why } if saw_nothing(pulse, &why) => {}
        Verdict::Inconclusive {
            why:
                Why::Memory
                | Why::LockHolder { .. }
                | Why::Unobserved
                | Why::WorkerUnseen
                | Why::HandedOver { .. }
                | Why::Undecided { .. }
                | Why::SlowMachine { .. }
                | Why::Stolen { .. }
                | Why::Suspended { .. }
                | Why::ProcessStopped { .. },
        } => {
            assert!(pulse.worst().is_some_and(|worst| worst.wall > pulse.budget), "\n{pulse}");
        }
        _ => pulse.assert_steady(),
    }
}

/// On a machine so busy that nothing can be told, a watch may say so; it must not accuse.
#[track_caller]
pub(crate) fn assert_not_accused(pulse: &Pulse) {
    assert_ne!(pulse.verdict(), Verdict::Starved, "\n{pulse}");
}
