#![no_main]

automodel_fuzz::libfuzzer_target!("quant_state");
