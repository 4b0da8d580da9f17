#![no_main]

automodel_fuzz::libfuzzer_target!("plan");
