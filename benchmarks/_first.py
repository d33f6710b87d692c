"""The shortest scripts by which MONAI and TorchIO answer one scan with a trained network: neither has a command for it. `startup.py` runs
them, in an empty environment too, so that nothing is imported here but what such a script takes.

    python benchmarks/_first.py monai|torchio WEIGHTS.pt SCAN.nii.gz FOLDER
    python benchmarks/_first.py monai|torchio WEIGHTS.pt                       random weights are written

MONAI's network is its SegResNet as it comes (1.18 million parameters); TorchIO brings none: a plain U-Net of torch with the channels that
ours has for these scans (1.40 million). Both see the scan once: no mirrors, and tiles that overlap by a quarter, MONAI's own overlap.
"""

import sys
from itertools import pairwise
from pathlib import Path

PATCH, CLASSES = (40, 56, 40), 3  # of the plans of vesalius and nnU-Net for these scans


def monai_network():
    from monai.networks.nets import SegResNet

    return SegResNet(in_channels=1, out_channels=CLASSES)


def by_monai(weights, scan, folder):
    import torch
    from monai.inferers import sliding_window_inference
    from monai.transforms import AsDiscrete, Compose, LoadImage, NormalizeIntensity, SaveImage

    read = Compose([LoadImage(ensure_channel_first=True), NormalizeIntensity()])
    net = monai_network()
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval()
    with torch.inference_mode():
        logits = sliding_window_inference(read(scan)[None], PATCH, 1, net)
    SaveImage(folder, output_dtype="uint8", separate_folder=False, print_log=False)(AsDiscrete(argmax=True)(logits[0]))


def torchio_network(channels=(16, 32, 64, 128)):
    """A U-Net as it is usually written: two convolutions a stage, pooled by 2, transposed convolutions on the way up."""
    import torch
    from torch import nn

    def stage(before, after):
        sides = ((before, after), (after, after))
        return nn.Sequential(*[part for a, b in sides for part in (nn.Conv3d(a, b, 3, padding=1), nn.InstanceNorm3d(b), nn.ReLU())])

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList([stage(a, b) for a, b in pairwise((1, *channels))])
            self.rise = nn.ModuleList([nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(channels)])
            self.up = nn.ModuleList([stage(2 * a, a) for a in channels[:-1]])
            self.pool, self.last = nn.MaxPool3d(2), nn.Conv3d(channels[0], CLASSES, 1)

        def forward(self, x):
            kept = [x := self.down[0](x)]
            for down in self.down[1:]:
                kept.append(x := down(self.pool(x)))
            for rise, up, skip in reversed(list(zip(self.rise, self.up, kept, strict=False))):
                x = up(torch.cat([rise(x), skip], 1))
            return self.last(x)

    return UNet()


def by_torchio(weights, scan, folder):
    import torch
    import torchio as tio

    subject = tio.Subject(image=tio.ScalarImage(scan))
    fits = [max(sides) for sides in zip(PATCH, subject.spatial_shape, strict=True)]
    subject = tio.Compose([tio.ZNormalization(), tio.CropOrPad(fits)])(subject)
    sampler = tio.GridSampler(subject, PATCH, [side // 4 // 2 * 2 for side in PATCH])  # it takes even overlaps
    aggregator = tio.GridAggregator(sampler, overlap_mode="average")
    net = torchio_network()
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval()
    with torch.inference_mode():
        for batch in tio.SubjectsLoader(sampler, batch_size=1):
            aggregator.add_batch(net(batch["image"][tio.DATA]), batch[tio.LOCATION])
    labels = aggregator.get_output_tensor().argmax(0, keepdim=True).to(torch.uint8)
    subject.add_image(tio.LabelMap(tensor=labels, affine=subject.image.affine), "answer")
    Path(folder).mkdir(exist_ok=True)
    subject.apply_inverse_transform(warn=False).answer.save(Path(folder) / Path(scan).name)


NETWORKS = {"monai": monai_network, "torchio": torchio_network}
SCRIPTS = {"monai": by_monai, "torchio": by_torchio}


def main():
    name, *paths = sys.argv[1:]
    if len(paths) == 1:
        import torch

        torch.manual_seed(0)
        torch.save(NETWORKS[name]().state_dict(), paths[0])
        return
    SCRIPTS[name](*paths)


if __name__ == "__main__":
    main()
