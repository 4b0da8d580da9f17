//! Whole models on a GPU, or what poses as one, against the CPU.

use automodel::generation::GenerationOptions;
use automodel::loader::QuantizationConfig;
use automodel::quant::QuantType;
use automodel::{AutoModel, AutoModelForCausalLM, Device, DeviceError, DeviceName};
use std::ops::ControlFlow;

fn device() -> Option<Device> {
    match DeviceName::Wgpu.open() {
        Ok(device) => Some(device),
        Err(DeviceError::Absent { .. }) => {
            eprintln!("SKIPPED: no GPU and no software Vulkan driver, so no model was run on one");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn demo(device: &Device, quantized: bool) -> AutoModel {
    let builder = AutoModelForCausalLM::from_pretrained("demo").device(device.clone());
    let builder = if quantized { builder.quantize(QuantizationConfig::new(QuantType::Nf4)) } else { builder };
    builder.load().unwrap()
}

fn logits(model: &AutoModel) -> Vec<f32> {
    model.logits(&[1, 6, 11, 14, 8, 12, 15]).unwrap().into_data().try_into_vec().unwrap()
}

fn text(model: &AutoModel) -> String {
    let options = GenerationOptions::default();
    let report = model.generate(&["27+48=".into()], &options, &mut |_| ControlFlow::Continue(())).unwrap();
    report.texts[0].text.clone()
}

#[test]
fn the_demo_computes_the_same_on_the_gpu() {
    let Some(device) = device() else { return };
    for quantized in [false, true] {
        let (gpu, cpu) = (demo(&device, quantized), demo(&Device::flex(), quantized));
        let (here, there) = (logits(&gpu), logits(&cpu));
        assert_eq!(here.len(), there.len());
        let greatest = there.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
        for (a, b) in here.iter().zip(&there) {
            assert!((a - b).abs() <= 1e-4 * greatest, "{a} {b} of {greatest}, quantised: {quantized}");
        }
        assert_eq!(text(&gpu), text(&cpu), "quantised: {quantized}");
    }
}
