//! See `petasos_transports::fuzzing::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_transports::fuzzing::message(input));
