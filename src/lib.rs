//! deadbeat kills process groups dead, and proves that the tokio runtime never missed a beat.

pub mod heartbeat;
