"""The rivals of `time_to_quality.py`: each learns from the same cases until the same deadline and leaves its answers to the test cases as
NIfTI files. A rival is a function of a `Job`; it returns what it has to say of itself.
"""

import math
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from vesalius import Dataset

EPOCHS = 20  # steps of nnU-Net's poly schedule: its epochs are cut to the time
SET, CONFIGURATION, PLANS = "Dataset004_set", "3d_fullres", "nnUNetPlans"
PATCH = (40, 56, 40)  # nnU-Net's own for these scans, and MONAI's in its DynUNet pipeline


@dataclass
class Job:
    """`deadline` by time.monotonic(); answers go to `answers`, anything else to `folder`."""

    data: Path
    folder: Path
    minutes: float
    threads: int
    started: float
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def deadline(self):
        return self.started + 60 * self.minutes

    @property
    def left(self):
        return self.deadline - time.monotonic()

    @property
    def progress(self):
        return min(1.0, (time.monotonic() - self.started) / (60 * self.minutes))

    @property
    def answers(self):
        return self.folder / "answers"

    def part(self, name):
        """The cases of one part of the given split."""
        return [case for case in Dataset.open(self.data).cases if case.split == name]

    def clocked(self, what):
        """Seconds from the start of the process to here."""
        self.spent[what] = round(time.monotonic() - self.started, 1)


def ours(job):
    """`vesalius.train` with the time as its budget, in which planning, testing (twice: model and baseline) and the report are too."""
    os.environ["VESALIUS_HOME"] = str(job.folder / "home")  # nothing prepared earlier
    import torch

    from vesalius import train
    from vesalius.plan import Request

    torch.set_num_threads(job.threads)
    run = train(job.data, job.folder / "run", wish=Request(budget=60 * job.minutes))
    job.clocked("whole")
    job.answers.mkdir()
    for case in job.part("test"):
        shutil.copy(job.folder / "run" / "predictions" / "test" / f"{case.name}.nii.gz", job.answers)
    expected = run.plan.expected
    logs = [path.read_text().strip().rpartition("\n")[2] for path in sorted((job.folder / "run").rglob("log.csv"))]
    steps = " and ".join(log.partition(",")[0] for log in logs)  # of one network, or of two that answer together
    return f"{steps} steps of {run.plan.patch.batch}, {expected.parameters / 1e6:.2f} M parameters, {run.plan.train.precision}"


# -- nnU-Net -----------------------------------------------------------------------------------------------------------------------------


def nnunet(job):
    """nnU-Net v2 by its own planner, preprocessing, trainer and predictor. What its trainer measures of itself in a warm-up is not counted,
    nor is prediction; its epochs are EPOCHS (fewer where the time does not allow an iteration in each): poly ends at the deadline."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(job.folder / name)
    os.environ["nnUNet_n_proc_DA"] = os.environ["nnUNet_def_n_proc"] = str(job.threads)  # of the former its planner makes compute threads
    import torch

    torch.manual_seed(0)
    _as_nnunet(job)
    plans, about = _planned(job)
    job.clocked("prepared")
    torch.set_num_threads(job.threads)
    if job.threads == 1:
        os.environ["nnUNet_n_proc_DA"] = "0"  # augments in the same process: a second one would share its processor
    second = _warm_up(job, plans, about)
    trainer = _trainer(plans, about)
    trainer.num_epochs = max(1, min(EPOCHS, int(job.left / (2 * second))))
    done = _ending_in_time(job, trainer, second)
    trainer.run_training()
    job.clocked("whole")
    _answered(job, trainer)
    job.clocked("predicted")
    return (f"{sum(done)} iterations of {trainer.batch_size} in {len(done)} epochs, {_millions(trainer.network):.2f} M parameters, fp32, "
            f"{second:.1f} s an iteration")  # fmt: skip


def _as_nnunet(job):
    """The cases under nnU-Net's names: links, its dataset.json and its split."""
    from batchgenerators.utilities.file_and_folder_operations import save_json

    raw = job.folder / "raw" / SET
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    parts = {part: job.part(part) for part in ("train", "val")}
    cases = [case for part in parts.values() for case in part]
    for case in cases:
        (raw / "imagesTr" / f"{case.name}_0000.nii.gz").symlink_to(case.images["image"])
        (raw / "labelsTr" / f"{case.name}.nii.gz").symlink_to(case.mask)
    labels = Dataset.open(job.data).labels
    values = {name: value[0] for name, value in zip(labels.names, labels.values, strict=True)}
    save_json({"channel_names": {"0": "MRI"}, "labels": {"background": 0, **values}, "numTraining": len(cases),
               "file_ending": ".nii.gz"}, str(raw / "dataset.json"), sort_keys=False)  # fmt: skip
    prepared = job.folder / "preprocessed" / SET
    prepared.mkdir(parents=True)
    save_json([{part: [case.name for case in found] for part, found in parts.items()}], str(prepared / "splits_final.json"))


def _planned(job):
    """Fingerprint, plan and preprocessed cases of the one configuration that is trained, as its command does it."""
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    extract_fingerprints([4], num_processes=job.threads, show_progress_bar=False)
    plan_experiments([4])
    preprocess([4], PLANS, configurations=(CONFIGURATION,), num_processes=(job.threads,), show_progress_bar=False)
    folder = job.folder / "preprocessed" / SET
    return load_json(str(folder / f"{PLANS}.json")), load_json(str(folder / "dataset.json"))


def _trainer(plans, about):
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    return nnUNetTrainer({**plans, "continue_training": False}, CONFIGURATION, 0, about, device=torch.device("cpu"))


def _warm_up(job, plans, about):
    """Seconds per iteration of a trainer that is thrown away, augmentation included; the clock is set back by what this took."""
    begun = time.monotonic()
    trainer = _trainer(plans, about)
    trainer.initialize()
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()
    times = []
    for _ in range(2):
        since = time.monotonic()
        trainer.train_step(next(batches))
        times.append(time.monotonic() - since)
    job.started += time.monotonic() - begun
    return min(times)


def _ending_in_time(job, trainer, second):
    """Give every epoch its share of the time that is left, by the seconds that an iteration has taken so far; one validation iteration for
    five of training, as nnU-Net has it (50 for 250). The list that is returned fills with the iterations of each epoch."""
    begun, done, start = time.monotonic(), [], trainer.on_epoch_start

    def on_epoch_start():
        each = (time.monotonic() - begun) / sum(done) if done else 1.2 * second
        share = job.left / (trainer.num_epochs - len(done)) / each
        done.append(max(1, round(share)))
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = done[-1], max(1, round(done[-1] / 5))
        start()

    trainer.on_epoch_start = on_epoch_start
    return done


def _answered(job, trainer):
    """The test cases by nnU-Net's predictor as its command uses it: half-overlapping tiles, all mirrors."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trainer.output_folder_base), (0,))
    job.answers.mkdir()
    cases = job.part("test")
    predictor.predict_from_files_sequential([[str(case.images["image"])] for case in cases],
                                            [str(job.answers / case.name) for case in cases])  # fmt: skip


# -- MONAI -------------------------------------------------------------------------------------------------------------------------------


def monai_segresnet(job):
    """SegResNet as in MONAI's brain tumour tutorial (16 filters)."""
    from monai.networks.nets import SegResNet

    return _monai(job, SegResNet(init_filters=16, in_channels=1, out_channels=_classes(job), dropout_prob=0.2))


def monai_dynunet(job):
    """DynUNet with the kernels and strides of MONAI's DynUNet pipeline for these scans, and its usual 32 filters."""
    from monai.networks.nets import DynUNet

    strides = [1, 2, 2, 2]
    return _monai(job, DynUNet(3, 1, _classes(job), kernel_size=[3] * 4, strides=strides, upsample_kernel_size=strides[1:], res_block=True))


def _classes(job):
    return len(Dataset.open(job.data).labels.names) + 1


def _monai(job, net):
    """DiceCELoss, AdamW and a cosine that ends at the deadline; the augmentation of the DynUNet pipeline; fp32. No time goes into
    validation. The rate is ten times that of MONAI's tutorials, which is made for a thousand times as many steps."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    cases = [{"image": str(case.images["image"]), "label": str(case.mask)} for case in job.part("train")]
    stored = CacheDataset(cases, _learning(), num_workers=0, progress=False)
    batches = DataLoader(stored, batch_size=2, shuffle=True, num_workers=0)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-5)
    job.clocked("prepared")
    begun, left, steps = time.monotonic(), job.left, 0
    while job.left > 0:
        for batch in batches:
            optimiser.param_groups[0]["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * min(1, (time.monotonic() - begun) / left)))
            optimiser.zero_grad()
            loss(net(batch["image"]), batch["label"]).backward()
            optimiser.step()
            steps += 1
            if job.left <= 0:
                break
    job.clocked("whole")
    _slid(job, net.eval())
    job.clocked("predicted")
    return f"{steps} steps of 4, {_millions(net):.2f} M parameters, fp32"


def _learning():
    """What is done to a training case: normalised, padded, two patches cut, and augmented as in the DynUNet pipeline."""
    from monai import transforms as t

    both = ["image", "label"]
    return t.Compose([
        t.LoadImaged(both, ensure_channel_first=True), t.NormalizeIntensityd("image", nonzero=True), t.SpatialPadd(both, PATCH),
        t.RandCropByPosNegLabeld(both, label_key="label", spatial_size=PATCH, pos=2, neg=1, num_samples=2),
        t.RandZoomd(both, prob=0.15, min_zoom=0.9, max_zoom=1.2, mode=("trilinear", "nearest"), align_corners=(True, None)),
        t.RandGaussianNoised("image", prob=0.15, std=0.01),
        t.RandGaussianSmoothd("image", prob=0.15, sigma_x=(0.5, 1.15), sigma_y=(0.5, 1.15), sigma_z=(0.5, 1.15)),
        t.RandScaleIntensityd("image", prob=0.15, factors=0.3),
        *[t.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)],
    ])  # fmt: skip


def _slid(job, net):
    """The test cases by sliding_window_inference with half-overlapping tiles and its Gaussian."""
    import nibabel
    import torch
    from monai import transforms as t
    from monai.inferers import sliding_window_inference

    read = t.Compose([t.LoadImage(ensure_channel_first=True), t.NormalizeIntensity(nonzero=True)])
    job.answers.mkdir()
    for case in job.part("test"):
        path = case.images["image"]
        with torch.inference_mode():
            logits = sliding_window_inference(read(path)[None], PATCH, 4, net, overlap=0.5, mode="gaussian")
        labels = logits.argmax(1)[0].numpy().astype("uint8")
        nibabel.save(nibabel.Nifti1Image(labels, nibabel.load(path).affine), job.answers / f"{case.name}.nii.gz")


def _millions(net):
    return sum(p.numel() for p in net.parameters()) / 1e6


RIVALS = {"vesalius": ours, "nnunet": nnunet, "monai-segresnet": monai_segresnet, "monai-dynunet": monai_dynunet}
NAMES = {"vesalius": "vesalius", "nnunet": "nnU-Net", "monai-segresnet": "MONAI SegResNet", "monai-dynunet": "MONAI DynUNet"}
