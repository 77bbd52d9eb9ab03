//! The stall detector, against blocks of every kind, honest code and a machine that misbehaves.

mod verdicts;
