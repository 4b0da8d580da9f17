//! A layer as a Burn module: its fields are branches and norms by the names that the specification gives them.

use super::{BranchModule, Layer, NormModule, OperationModule};
use crate::Norm;
use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

const CONTAINER: &str = "Struct:Layer";
const SCALAR: &str = "layer_scalar";

impl Layer {
    fn each_part(
        self,
        mut operation: impl FnMut(OperationModule) -> OperationModule,
        mut norm: impl FnMut(Norm) -> Norm,
        scalar: impl FnOnce(Param<Tensor<1>>) -> Param<Tensor<1>>,
    ) -> Self {
        let mut change = |module: NormModule| NormModule { norm: norm(module.norm), ..module };
        let branches = self.branches.into_iter().map(|branch| BranchModule {
            operation: operation(branch.operation),
            pre: branch.pre.map(&mut change),
            post: branch.post.map(&mut change),
            post_add: branch.post_add.map(&mut change),
            ..branch
        });
        Self { branches: branches.collect(), scalar: self.scalar.map(scalar), index: self.index }
    }

    fn norms(&self) -> impl Iterator<Item = &NormModule> {
        self.branches.iter().flat_map(|branch| branch.pre.iter().chain(&branch.post).chain(&branch.post_add))
    }
}

impl Module for Layer {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for branch in &self.branches {
            visitor.enter_module(branch.name, CONTAINER);
            branch.operation.visit(visitor);
            visitor.exit_module(branch.name, CONTAINER);
        }
        for NormModule { name, norm } in self.norms() {
            visitor.enter_module(name, CONTAINER);
            norm.visit(visitor);
            visitor.exit_module(name, CONTAINER);
        }
        if let Some(scalar) = &self.scalar {
            visitor.enter_module(SCALAR, CONTAINER);
            scalar.visit(visitor);
            visitor.exit_module(SCALAR, CONTAINER);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        fn mapped<T: Module, M: ModuleMapper>(name: &str, module: T, mapper: &mut M) -> T {
            mapper.enter_module(name, CONTAINER);
            let module = module.map(mapper);
            mapper.exit_module(name, CONTAINER);
            module
        }
        let branches = self.branches.into_iter().map(|branch| {
            let operation = mapped(branch.name, branch.operation, mapper);
            let mut norm = |module: NormModule| NormModule { norm: mapped(module.name, module.norm, mapper), ..module };
            BranchModule {
                pre: branch.pre.map(&mut norm),
                post: branch.post.map(&mut norm),
                post_add: branch.post_add.map(&mut norm),
                operation,
                ..branch
            }
        });
        let branches = branches.collect();
        Self { branches, scalar: self.scalar.map(|scalar| mapped(SCALAR, scalar, mapper)), index: self.index }
    }

    fn to_device(self, device: &Device) -> Self {
        let to_device = |scalar: Param<Tensor<1>>| scalar.to_device(device);
        self.each_part(|operation| operation.to_device(device), |norm| norm.to_device(device), to_device)
    }

    fn fork(self, device: &Device) -> Self {
        self.each_part(|operation| operation.fork(device), |norm| norm.fork(device), |scalar| scalar.fork(device))
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.branches.iter().fold(devices, |devices, branch| branch.operation.collect_devices(devices));
        let devices = self.norms().fold(devices, |devices, module| module.norm.collect_devices(devices));
        self.scalar.iter().fold(devices, |devices, scalar| scalar.collect_devices(devices))
    }

    fn materialize(self) -> Self {
        self.each_part(Module::materialize, Module::materialize, Module::materialize)
    }

    fn valid(&self) -> Self {
        self.clone().each_part(|operation| operation.valid(), |norm| norm.valid(), |scalar| scalar.valid())
    }

    fn train(self) -> Self {
        self.each_part(Module::train, Module::train, Module::train)
    }
}

impl ModuleDisplayDefault for Layer {
    fn content(&self, mut content: Content) -> Option<Content> {
        for branch in &self.branches {
            content = content.add(branch.name, &branch.operation);
        }
        for NormModule { name, norm } in self.norms() {
            content = content.add(name, norm);
        }
        if let Some(scalar) = &self.scalar {
            content = content.add(SCALAR, scalar);
        }
        Some(content)
    }
}

impl ModuleDisplay for Layer {}
