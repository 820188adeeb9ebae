"""Encoders of radiology, ophthalmology and of medical images at large."""

from typing import Any

from causalfm.extraction.pooling import CLASS
from causalfm.extraction.specs import CLIP_MEAN, CLIP_STD, EncoderSpec

HALF = (0.5, 0.5, 0.5)
RETFOUND: dict[str, Any] = {
    "loader": "timm",
    "dimension": 1024,
    "input_size": 224,
    "architecture": "vit_large_patch16_224",
    "arguments": {"img_size": 224, "global_pool": "avg"},
    "state": ("model",),
    "unused": ("decoder_", "mask_token", "norm."),
    "untrained": ("fc_norm.",),  # a layer norm that the published recipe leaves as it starts
    "licence": "CC-BY-NC-4.0",
    "gated": True,
    "source": "rmaphoh/RETFound_MAE: models_vit.py, RETFound_Feature.ipynb; doi:10.1038/s41586-023-06555-x",
    "verified": "built offline",
    "note": "mean of the patch tokens, then an untrained layer norm, as in the authors' notebook for features; "
    "licence as stated for the code; not verified: the name of the repository of the OCT weights",
}

ROWS = (
    EncoderSpec(
        name="rad-dino",
        loader="transformers",
        dimension=768,
        input_size=518,
        hub="microsoft/rad-dino",
        architecture="Dinov2Model",
        arguments={
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 518,
            "patch_size": 14,
        },
        pooling=CLASS,
        crop=True,
        mean=(0.5307, 0.5307, 0.5307),
        std=(0.2583, 0.2583, 0.2583),
        parameters="86.6M",
        licence="MIT",
        source="hub page (files, licence, class token); config.json of microsoft/rad-dino-maira-2; arXiv:2401.10815",
        verified="built offline",
        note="chest X-rays; not verified: mean, std and crop of the published processor",
    ),
    EncoderSpec(
        name="biomedclip",
        loader="timm",
        dimension=512,
        input_size=224,
        hub="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        architecture="vit_base_patch16_224",
        arguments={"img_size": 224},
        files=("open_clip_pytorch_model.bin",),
        state=("visual.",),
        head="linear",
        crop=True,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        licence="MIT",
        source="open_clip_config.json of the repository; rendeirolab/lazyslide-models: multimodal/biomedclip.py",
        verified="built offline",
        note="image embedding after the projection, not normalised; open_clip is not needed",
    ),
    EncoderSpec(
        name="medsiglip",
        loader="transformers",
        dimension=1152,
        input_size=448,
        hub="google/medsiglip-448",
        architecture="SiglipVisionModel",
        arguments={
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 448,
            "patch_size": 14,
            "hidden_act": "gelu_pytorch_tanh",
        },
        files=("model.safetensors",),
        unused=("text_model.", "logit_scale", "logit_bias"),
        mean=HALF,
        std=HALF,
        interpolation="BILINEAR",
        parameters="400M",
        licence="Health AI Developer Foundations terms",
        gated=True,
        source="model card; config.json of google/siglip-so400m-patch14-384; arXiv:2507.05201",
        verified="built offline",
        note="pooled by the network's attention head; not verified: interpolation of the published processor",
    ),
    EncoderSpec(
        name="medimageinsight",
        loader="refused",
        dimension=1024,
        input_size=480,
        hub="lion-ai/MedImageInsights",
        architecture="DaViT",
        source="arXiv:2410.06542; description of its config.yaml (image size 480)",
        verified="not verified offline: neither timm nor transformers has this DaViT, only code of its repository",
        note="load it with its repository's own code and pass the module: own_encoder(network, input_size=480); "
        "not verified: length, mean, std, licence",
    ),
    EncoderSpec(
        name="retfound-cfp", hub="YukunZhou/RETFound_mae_natureCFP", files=("RETFound_mae_natureCFP.pth",), **RETFOUND
    ),
    EncoderSpec(
        name="retfound-oct", hub="YukunZhou/RETFound_mae_natureOCT", files=("RETFound_mae_natureOCT.pth",), **RETFOUND
    ),
)
