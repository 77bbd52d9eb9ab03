//! The calls that a thread is in, from a copy of its stack and the unwind information of the modules it runs in.
//!
//! Nothing is guessed: where a rule needs a register that is not known, or memory that was not copied, the walk ends.
//! One such register has a way out. The kernel does not show the frame pointer of a thread that waits, and Rust's
//! standard library is built with frame pointers, so nearly every wait would end there; but what such a function has
//! pushed since it set its frame pointer is in its code.

use gimli::{CfaRule, EvaluationResult, Location, Register, RegisterRule, UnwindContext, UnwindExpression, Value};

mod frame_pointer;
pub(crate) mod modules;

use modules::{Code, Modules};

use crate::heartbeat::culprit::stack::{Registers, Stack};

/// More calls than this are a loop in what was read.
const CALLS: usize = 512;

/// Walks from the innermost call outwards.
pub(crate) struct Walk<'a> {
    stack: &'a Stack,
    modules: &'a Modules,
    context: UnwindContext<usize>,
    registers: Registers,
    /// How many calls were shown.
    calls: usize,
    /// Whether the program counter is the address that a call returns to.
    returns: bool,
    end: Option<UnwindEnd>,
}

/// Why there is no further call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnwindEnd {
    /// It was the outermost.
    Outermost,
    /// It is not known, or lies beyond what was copied.
    Unknown,
}

impl<'a> Walk<'a> {
    /// `stack`: of any thread of this process, with as many registers as are known.
    pub(crate) fn new(stack: &'a Stack, modules: &'a Modules) -> Self {
        let (context, registers) = (UnwindContext::new(), stack.registers);
        Self { stack, modules, context, registers, calls: 0, returns: false, end: None }
    }

    /// Where the next call's frame begins: above it nothing is known once the walk is over.
    pub(crate) fn stack_pointer(&self) -> usize {
        self.registers.stack_pointer()
    }

    /// The address of an instruction that was under way: in a caller, the last byte of its call.
    fn address(&self) -> usize {
        if self.returns { self.registers.program_counter.wrapping_sub(1) } else { self.registers.program_counter }
    }

    /// Why the walk is over; `None` while it is not.
    pub(crate) fn end(&self) -> Option<UnwindEnd> {
        self.end
    }

    /// The registers of the caller.
    fn caller(&mut self) -> Result<Registers, UnwindEnd> {
        let address = self.address();
        let code = self.modules.code(address).ok_or(UnwindEnd::Unknown)?;
        let row = code.row(&mut self.context, address).ok_or(UnwindEnd::Unknown)?;
        let (frame_rule, return_rule) = (row.cfa().clone(), row.register(code.return_register()));
        let rules: Vec<_> = Registers::preserved().map(|number| (number, row.register(Register(number)))).collect();
        let frame = self.frame(&code, &frame_rule, address).ok_or(UnwindEnd::Unknown)?;
        // On aarch64 one that calls nothing has no rule for the address that it returns to: it is in its register.
        if return_rule == RegisterRule::Undefined && !cfg!(target_arch = "aarch64") {
            return Err(UnwindEnd::Outermost);
        }
        let same = self.registers.get(code.return_register().0);
        let return_address = self.restored(&code, return_rule, frame, same).ok_or(UnwindEnd::Unknown)?;
        let mut caller = self.registers.of_caller(return_address, frame);
        for (number, rule) in rules {
            // One without a rule is left as it was.
            if rule != RegisterRule::Undefined {
                caller.set(number, self.restored(&code, rule, frame, self.registers.get(number)));
            }
        }
        // A frame lies above those that it calls. On some architectures one that calls nothing has no size.
        let outwards = frame > self.stack_pointer() || frame == self.stack_pointer() && !self.returns;
        self.returns = !code.is_signal_trampoline();
        match (outwards, return_address) {
            (_, 0) => Err(UnwindEnd::Outermost),
            (true, _) => Ok(caller),
            (false, _) => Err(UnwindEnd::Unknown),
        }
    }

    /// Where the caller's frame ends: its stack pointer, once this call returns.
    fn frame(&mut self, code: &Code<'_>, rule: &CfaRule<usize>, address: usize) -> Option<usize> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => match self.registers.get(register.0) {
                Some(value) => Some(value.wrapping_add_signed(*offset as isize)),
                None => self.frame_by_code(code, *register, address),
            },
            CfaRule::Expression(expression) => self.evaluated(code, *expression, None),
        }
    }

    /// The same if it is told by a frame pointer that is not known.
    fn frame_by_code(&mut self, code: &Code<'_>, register: Register, address: usize) -> Option<usize> {
        let above = frame_pointer::frame_above_stack(code, &mut self.context, register, address)?;
        let frame = self.stack_pointer().wrapping_add(above);
        let return_address = self.stack.word(frame.wrapping_sub(size_of::<usize>()))?;
        self.modules.follows_a_call(return_address).then_some(frame)
    }

    fn restored(&self, code: &Code<'_>, rule: RegisterRule<usize>, frame: usize, same: Option<usize>) -> Option<usize> {
        let at = |offset: i64| frame.wrapping_add_signed(offset as isize);
        match rule {
            RegisterRule::SameValue => same,
            RegisterRule::Undefined => same.filter(|_| cfg!(target_arch = "aarch64")),
            RegisterRule::Offset(offset) => self.stack.word(at(offset)),
            RegisterRule::ValOffset(offset) => Some(at(offset)),
            RegisterRule::Register(register) => self.registers.get(register.0),
            RegisterRule::Expression(expression) => self.stack.word(self.evaluated(code, expression, Some(frame))?),
            RegisterRule::ValExpression(expression) => self.evaluated(code, expression, Some(frame)),
            _ => None,
        }
    }

    fn evaluated(&self, code: &Code<'_>, expression: UnwindExpression<usize>, frame: Option<usize>) -> Option<usize> {
        let mut evaluation = code.evaluation(expression)?;
        frame.into_iter().for_each(|frame| evaluation.set_initial_value(frame as u64));
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.registers.get(register.0)?;
                    evaluation.resume_with_register(Value::Generic(value as u64)).ok()?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    let word = self.stack.word(usize::try_from(address).ok()?)?;
                    evaluation.resume_with_memory(Value::Generic(word as u64)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.result().first()?.location {
            Location::Address { address } => usize::try_from(address).ok(),
            _ => None,
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    /// An address in the instruction that each call was at.
    fn next(&mut self) -> Option<usize> {
        if self.end.is_some() {
            return None;
        }
        let caller = match self.calls {
            0 => Ok(self.registers),
            CALLS => Err(UnwindEnd::Unknown),
            _ => self.caller(),
        };
        self.calls += 1;
        self.registers = caller.map_err(|end| self.end = Some(end)).ok()?;
        Some(self.address())
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::heartbeat::observer::sample::copy_of_stack;
    use crate::heartbeat::observer::sample::syscall::ThreadState;
    use crate::heartbeat::reading::thread::ThreadId;

    #[inline(never)]
    fn inner(told: &Sender<ThreadId>, ends: &std::sync::mpsc::Receiver<()>) {
        told.send(ThreadId::here()).unwrap();
        ends.recv().unwrap_err();
    }

    #[inline(never)]
    fn outer(told: &Sender<ThreadId>, ends: &std::sync::mpsc::Receiver<()>) {
        inner(told, ends);
        std::hint::black_box(ends);
    }

    /// The stack of a thread that waits in `inner`, called by `outer`.
    fn waiting(look: impl FnOnce(&Stack)) {
        let (tell, told) = channel();
        let (end, ends) = channel::<()>();
        let thread = std::thread::spawn(move || outer(&tell, &ends));
        let id = told.recv().unwrap();
        let begun = Instant::now();
        let state = loop {
            let state = ThreadState::of(id).unwrap();
            if state.call.is_some_and(|call| call.name() == "futex") {
                break state;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it never waits");
            std::thread::yield_now();
        };
        look(&copy_of_stack(&state).unwrap());
        drop(end);
        thread.join().unwrap();
    }

    /// By the function, as the unwind information has it: from where to where.
    fn is_in(function: usize, address: usize, modules: &Modules) -> bool {
        modules.code(function).unwrap().range().contains(&address)
    }

    #[test]
    fn the_calls_of_a_thread_that_waits_are_found_from_the_innermost_to_the_outermost() {
        waiting(|stack| {
            let modules = Modules::read();
            let mut walk = Walk::new(stack, &modules);
            let calls: Vec<_> = walk.by_ref().collect();
            let place = |function| calls.iter().position(|call| is_in(function, *call, &modules));
            let (inner, outer) = (place(inner as *const () as usize), place(outer as *const () as usize));
            assert!(inner.is_some() && outer == inner.map(|place| place + 1), "{inner:?} {outer:?} of {calls:x?}");
            assert_eq!(walk.end(), Some(UnwindEnd::Outermost));
        });
    }

    #[test]
    fn a_walk_ends_where_no_more_was_copied_and_says_that_there_may_be_more() {
        waiting(|stack| {
            let modules = Modules::read();
            let whole = Walk::new(stack, &modules).count();
            let counts: Vec<_> = [0, 1, 8, 64]
                .map(|words| {
                    let top = Stack::new(stack.registers, stack.from(0)[..words].to_vec());
                    let mut walk = Walk::new(&top, &modules);
                    let calls = walk.by_ref().count();
                    assert_eq!(walk.end(), Some(UnwindEnd::Unknown));
                    calls
                })
                .into();
            assert!(counts[0] == 1 && counts.is_sorted() && counts[3] < whole, "{counts:?} of {whole}");
        });
    }

    /// Of a running thread all registers are known.
    #[test]
    fn a_frame_pointer_that_is_known_leads_to_the_same_calls() {
        waiting(|stack| {
            let modules = Modules::read();
            let (mut walk, mut later) = (Walk::new(stack, &modules), None);
            while walk.next().is_some() && later.is_none() {
                // From the first frame on that has told it.
                later = walk.registers.get(6).is_some().then_some((walk.registers, walk.returns));
            }
            let (registers, returns) = later.unwrap();
            let copy = Stack::new(registers, stack.from(registers.stack_pointer()).to_vec());
            let mut again = Walk::new(&copy, &modules);
            again.returns = returns;
            let rest: Vec<_> = again.collect();
            let all: Vec<_> = Walk::new(stack, &modules).collect();
            assert!(rest.len() > 1 && all.ends_with(&rest), "{rest:x?} is no end of {all:x?}");
        });
    }

    #[test]
    fn registers_that_lead_nowhere_end_the_walk() {
        let modules = Modules::read();
        for (program_counter, stack_pointer) in
            [(0, 0), (8, usize::MAX), (usize::MAX, 8), (inner as *const () as usize, 0)]
        {
            let stack = Stack::new(Registers::of_wait(program_counter, stack_pointer), Vec::new());
            let mut walk = Walk::new(&stack, &modules);
            assert_eq!((walk.by_ref().count(), walk.end()), (1, Some(UnwindEnd::Unknown)));
        }
    }
}
