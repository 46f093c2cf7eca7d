//! See `petasos_transports::fuzzing::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_transports::fuzzing::record(input));
