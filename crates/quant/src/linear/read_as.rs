//! How codes are read, in Burn's records.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
};
use burn::tensor::{DType, Device, Int, Shape, Tensor};

use super::QuantLayout;
use crate::WeightDtype;

/// A mark whose name in records tells how the codes beside it are read: `read_as.nf4_64_2x64_bfloat16`. Records know tensors by name
/// and shape alone, and those of codes and scales are the same for many layouts; with the mark, a record of one layout lacks a
/// tensor of any other and is refused.
#[derive(Clone, Debug)]
pub(super) struct ReadAs {
    name: String,
    mark: Param<Tensor<1, Int>>,
}

impl ReadAs {
    pub fn new(layout: QuantLayout, dtype: WeightDtype, device: &Device) -> Self {
        let QuantLayout { scheme, shape: [rows, columns] } = layout;
        let name = format!("{}_{rows}x{columns}_{dtype}", scheme.code_name());
        // Nothing is on the device until a record is made.
        let one = |device: &Device, _: bool| Tensor::zeros([1], (device, DType::I32));
        Self { name, mark: Param::uninitialized(ParamId::new(), one, device.clone(), false, Shape::from([1])) }
    }

    fn with_mark(&self, mark: Param<Tensor<1, Int>>) -> Self {
        Self { name: self.name.clone(), mark }
    }
}

const CONTAINER: &str = "Struct:ReadAs";

impl Module for ReadAs {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.enter_module(&self.name, CONTAINER);
        Module::visit(&self.mark, visitor);
        visitor.exit_module(&self.name, CONTAINER);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        mapper.enter_module(&self.name, CONTAINER);
        let mark = Module::map(self.mark, mapper);
        mapper.exit_module(&self.name, CONTAINER);
        Self { name: self.name, mark }
    }

    fn to_device(self, device: &Device) -> Self {
        Self { name: self.name, mark: Module::to_device(self.mark, device) }
    }

    fn fork(self, device: &Device) -> Self {
        Self { name: self.name, mark: Module::fork(self.mark, device) }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        Module::collect_devices(&self.mark, devices)
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.with_mark(Module::valid(&self.mark))
    }

    fn train(self) -> Self {
        Self { name: self.name, mark: Module::train(self.mark) }
    }
}

impl ModuleDisplayDefault for ReadAs {
    fn content(&self, content: Content) -> Option<Content> {
        Some(content)
    }
}

impl ModuleDisplay for ReadAs {}
