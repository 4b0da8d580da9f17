//! What a loader asks of schemes: sizes, cuts, joint quantisation, assembly, descriptions of files.

#![allow(clippy::single_range_in_vec_init, reason = "one run of elements is a list of one range")]

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible};

use automodel_quant::{
    Assembly, AssemblyError, Cut, Elements, Joint, QuantError, QuantWeight, Quantized, Scheme, WeightDtype,
    files::{self, DescribeError, StoredTensor, TensorFiles},
    table16::{Blocksize, QuantType, Table16},
};
use safetensors::Dtype;

fn schemes() -> impl Iterator<Item = Scheme> {
    let blocksizes = [32, 64, 4096].map(|size| Blocksize::new(size).unwrap());
    blocksizes.into_iter().flat_map(|blocksize| {
        [(QuantType::Nf4, false), (QuantType::Nf4, true), (QuantType::Fp4, false)].map(|(quant_type, double)| {
            Table16::new(quant_type).with_blocksize(blocksize).with_double_quant(double).into()
        })
    })
}

fn values(elements: usize) -> Vec<f32> {
    (0..elements).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i / 512) as f32)).collect()
}

fn quantized(scheme: Scheme, shape: [usize; 2]) -> QuantWeight {
    QuantWeight::quantize(scheme, shape, Elements::F32(&values(shape[0] * shape[1]))).unwrap()
}

#[test]
fn bytes_are_those_of_the_tensors_but_tables_and_states() {
    for scheme in schemes() {
        for shape in [[1, 1], [3, 5], [64, 64], [300, 301], [520, 128]] {
            let weight = quantized(scheme, shape);
            assert_eq!((weight.scheme(), weight.shape()), (scheme, shape));
            let in_files: usize = files::write("w", &weight)
                .iter()
                .filter(|(name, _)| !name.contains("map") && !name.contains("state"))
                .map(|(_, tensor)| tensor.data.len())
                .sum();
            assert_eq!(scheme.bytes(shape), Some(in_files as u64), "{scheme} {shape:?}");
            assert_eq!(scheme.code_bytes(shape), Some(weight.codes().len() as u64));
        }
    }
    assert_eq!(Scheme::nf4().bytes([usize::MAX, 2]), None);
}

#[test]
fn cuts_are_whole_units_and_cover_a_weight_together() {
    // Two rows are three blocks.
    let (scheme, shape) =
        (Scheme::from(Table16::new(QuantType::Nf4).with_blocksize(Blocksize::new(32).unwrap())), [6, 48]);
    let rows = |start: usize, end: usize| Cut::new(scheme, shape, [start * 48..end * 48]);
    let cut = |start, end| rows(start, end).unwrap();
    assert!(Cut::cover([&cut(0, 2), &cut(2, 6)]));
    assert!(Cut::cover([&cut(2, 6), &cut(0, 4)]), "in any order, some twice");
    assert!(!Cut::cover([&cut(0, 2), &cut(4, 6)]) && !Cut::cover([&cut(0, 4)]));
    assert_eq!(rows(3, 6).unwrap_err().at, 144);
    assert!(rows(4, 7).is_err() && Cut::new(scheme, shape, [0..0]).is_err() && Cut::new(scheme, shape, []).is_err());
    // The end of the part may be within a unit, and nothing can follow it.
    assert!(!cut(0, 3).ends_with_unit() && cut(0, 6).ends_with_unit());
    assert_eq!(Cut::new(scheme, shape, [0..144, 192..240]).unwrap_err().at, 144);
    assert_eq!(Cut::new(scheme, shape, [0..32, 32..64, 96..128]).unwrap().runs(), [0..64, 96..128]);
}

#[test]
fn parts_decode_to_what_the_whole_has_there() {
    for scheme in schemes() {
        let shape = [512, 96];
        let weight = quantized(scheme, shape);
        let decoded = weight.dequantize::<f32>();
        for runs in [vec![0..16384], vec![8192..49152], vec![4096..8192, 0..4096, 16384..24576], vec![12288..20000]] {
            let Ok(cut) = Cut::new(scheme, shape, runs.clone()) else { continue };
            let part = weight.part(&cut, [1, cut.elements()]).unwrap();
            let expected: Vec<f32> = runs.iter().flat_map(|run| decoded[run.clone()].iter().copied()).collect();
            assert_eq!(part.dequantize::<f32>(), expected, "{scheme} {runs:?}");
            assert_eq!(part.scheme(), cut.scheme());
            assert_eq!(weight.copy_part(&cut, [1, cut.elements()]).unwrap(), part);
            assert!(matches!(weight.part(&cut, [2, cut.elements()]), Err(QuantError::LengthMismatch { .. })));
        }
        let other = Cut::new(scheme, [1, 49152], [0..4096]).unwrap();
        assert!(matches!(weight.part(&other, [1, 4096]), Err(QuantError::OtherCut { .. })));
    }
}

#[test]
fn parts_quantised_together_are_those_of_the_whole() {
    let scheme = Scheme::from(Table16::new(QuantType::Nf4).with_double_quant(true));
    assert!(scheme.is_joint() && !Scheme::nf4().is_joint());
    let (shape, all) = ([1024, 64], values(65536));
    let whole = quantized(scheme, shape);
    // The second begins with a scale of scales, the third does not.
    let runs = [0..16384, 16384..40960, 40960..65536];
    let mut joint = Joint::new(scheme, shape).unwrap();
    for run in &runs {
        let part = [run.len() / 64, 64];
        let weight = QuantWeight::quantize(scheme.separate(), part, Elements::F32(&all[run.clone()])).unwrap();
        joint.add(Cut::new(scheme, shape, [run.clone()]).unwrap(), Quantized::Host(weight)).unwrap();
    }
    for (run, part) in runs.into_iter().zip(joint.finish().unwrap()) {
        let Quantized::Host(part) = part else { panic!("on the host") };
        let cut = Cut::new(scheme, shape, [run.clone()]).unwrap();
        assert_eq!(part, whole.part(&cut, part.shape()).unwrap(), "{run:?}");
    }
    let mut joint = Joint::new(scheme, shape).unwrap();
    let part = quantized(scheme.separate(), [2, 64]);
    let wrong = joint.add(Cut::new(scheme, shape, [0..64]).unwrap(), Quantized::Host(part.clone()));
    assert!(matches!(wrong, Err(QuantError::LengthMismatch { .. })));
    let wrong = joint.add(Cut::new(Scheme::nf4(), shape, [0..128]).unwrap(), Quantized::Host(part));
    assert!(matches!(wrong, Err(QuantError::OtherCut { .. })));
}

#[test]
fn assembled_parts_are_the_whole() {
    for scheme in schemes() {
        let shape = [1024, 64];
        let whole = quantized(scheme, shape);
        let part = |run: std::ops::Range<usize>| {
            let shape = [run.len() / 64, 64];
            whole.part(&Cut::new(scheme, whole.shape(), [run]).unwrap(), shape).unwrap()
        };
        let mut assembly = Assembly::new(&part(0..32768), shape).unwrap();
        assembly.add(&part(32768..65536), &[(0, 32768, 32768)]).unwrap();
        assert!(!assembly.is_complete() && assembly.covered() == 32768);
        assembly.add(&part(0..32768), &[(0, 0, 16384), (16384, 16384, 16384)]).unwrap();
        let (found, as_they_came) = assembly.finish().unwrap();
        // 4096 elements a block: eight scales of the second part lie within 256 that share one.
        let joined = found.scheme() == scheme;
        assert_eq!(joined, as_they_came);
        assert!(found.dequantize::<f32>() == whole.dequantize::<f32>());

        let mut assembly = Assembly::new(&whole, shape).unwrap();
        let within = assembly.add(&whole, &[(0, 16, 65520)]);
        assert!(matches!(within, Err(AssemblyError::NotWholeUnits { .. })));
        let outside = assembly.add(&whole, &[(0, 4096, 65536)]);
        assert!(matches!(outside, Err(AssemblyError::NotWholeUnits { .. })));
        assembly.add(&whole, &[(0, 0, 65536)]).unwrap();
        assert_eq!(assembly.add(&whole, &[(4096, 0, 4096)]), Err(AssemblyError::Conflict));
        assert!(matches!(Assembly::new(&whole, shape).unwrap().finish(), Err(QuantError::IncompleteWeight { .. })));
    }
}

/// Tensors in memory that count what is read of them.
struct Files {
    tensors: BTreeMap<String, StoredTensor>,
    read: RefCell<Vec<String>>,
}

impl TensorFiles for Files {
    type Error = Infallible;

    fn header(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        self.tensors.get(name).map(|tensor| (tensor.dtype, tensor.shape.clone()))
    }

    fn read(&self, name: &str, _most: u64) -> Result<Vec<u8>, Infallible> {
        self.read.borrow_mut().push(name.to_owned());
        Ok(self.tensors[name].data.to_vec())
    }
}

fn written(weight: &QuantWeight) -> Files {
    Files { tensors: files::write("q.weight", weight).into_iter().collect(), read: RefCell::default() }
}

#[test]
fn files_are_described_by_headers_and_read() {
    for scheme in schemes() {
        let weight = quantized(scheme, [40, 96]);
        let stored = written(&weight);
        let described = files::describe("q.weight", None, &stored).unwrap().unwrap();
        assert_eq!((described.scheme, described.shape, described.dtype), (scheme, [40, 96], WeightDtype::Float32));
        assert!(stored.read.borrow().iter().all(|name| name.contains("quant_state")));
        assert_eq!(described.tensors.len(), stored.tensors.len());
        assert_eq!(described.tensors[0].name, "q.weight");
        let others = described.tensors[1..].iter().all(|tensor| files::owner(&tensor.name) == Some("q.weight"));
        assert!(others && stored.tensors.keys().any(|name| files::shows_quantization(name)));
        assert_eq!(described.read(|name| stored.tensors.get(name).cloned()).unwrap(), weight);

        let other = written(&quantized(scheme, [96, 40]));
        assert!(described.read(|name| other.tensors.get(name).cloned()).is_err());
        let planned = files::planned("q.weight", scheme, [40, 96], WeightDtype::Float32).unwrap();
        for (planned, (name, tensor)) in planned.iter().zip(files::write("q.weight", &weight)) {
            assert_eq!((&planned.header.name, planned.header.dtype), (&name, tensor.dtype));
            let spare = tensor.data.len() - planned.header.shape.iter().product::<usize>() * tensor.dtype.bitsize() / 8;
            assert!(spare <= planned.spare, "{name}: {spare}");
        }
    }
}

#[test]
fn files_that_contradict_themselves_are_not_described() {
    let weight = quantized(Scheme::nf4(), [40, 96]);
    let dense = Files { tensors: BTreeMap::new(), read: RefCell::default() };
    assert_eq!(files::describe("q.weight", None, &dense).unwrap(), None);
    for name in written(&weight).tensors.into_keys() {
        for change in 0..3 {
            let mut stored = written(&weight);
            let tensor = stored.tensors.get_mut(&name).unwrap();
            match change {
                0 => tensor.dtype = Dtype::I64,
                1 => tensor.shape.push(2),
                _ => drop(stored.tensors.remove(&name)),
            }
            match files::describe("q.weight", None, &stored) {
                Err(DescribeError::Weight(error)) => assert!(error.to_string().contains(&name), "{error}"),
                Ok(None) => assert!(change == 2 && files::shows_quantization(&name)),
                other => panic!("{name} {change}: {other:?}"),
            }
        }
    }
}
