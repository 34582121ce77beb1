"""Small models of other libraries that ours are compared with: their settings, and what ours has to become.

The comparisons run against recorded outputs everywhere (`test_recorded.py`), and against the libraries
themselves where these are installed (`test_timm.py`, `test_huggingface.py`, `test_meta.py` ...).
"""

TIMM_TINY = dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5)
PLAIN, CLIP, GATED = 'vit_base_patch16_224', 'vit_base_patch16_clip_224', 'vit_giant_patch14_dinov2'
DISTILLED, DEIT3 = 'deit_tiny_distilled_patch16_224', 'deit3_small_patch16_224'
REGISTERS = 'vit_small_patch14_reg4_dinov2'

# Case -> timm's architecture, arguments of `timm.create_model`, and attributes of the loaded model.
TIMM = {
    'class token': (PLAIN, {}, {'pooling': 'cls', 'activation': 'gelu', 'norm_epsilon': 1e-6}),
    'gap': (
        PLAIN,
        {'global_pool': 'avg', 'class_token': False, 'fc_norm': False},
        {'pooling': 'mean', 'class_token': False, 'norm_after_pooling': False},
    ),
    'gap, fc_norm': (
        PLAIN,
        {'global_pool': 'avg'},
        {'pooling': 'mean', 'class_token': True, 'norm_after_pooling': True},
    ),
    'map with class token': (
        PLAIN,
        {'global_pool': 'map', 'reg_tokens': 1},
        {'pool_prefix': False},
    ),
    'map with prefix': (
        PLAIN,
        {'global_pool': 'map', 'pool_include_prefix': True, 'act_layer': 'gelu_tanh'},
        {'pool_prefix': True, 'activation': 'gelu_tanh'},
    ),
    'registers with positions': (
        PLAIN,
        {'reg_tokens': 3},
        {'num_registers': 3, 'prefix_positions': 'all'},
    ),
    'registers without positions': (
        PLAIN,
        {'reg_tokens': 3, 'no_embed_class': True},
        {'num_registers': 3, 'prefix_positions': 'none'},
    ),
    'no_embed_class, fc_norm': (
        PLAIN,
        {'no_embed_class': True, 'fc_norm': True},
        {'prefix_positions': 'none', 'pooling': 'cls', 'norm_after_pooling': True},
    ),
    'no positions, no head': (
        PLAIN,
        {'pos_embed': 'none', 'num_classes': 0},
        {'positions': 'none', 'num_classes': 0},
    ),
    'registers without class token, pooled too': (
        PLAIN,
        {
            'global_pool': 'avg',
            'fc_norm': False,
            'class_token': False,
            'reg_tokens': 2,
            'no_embed_class': True,
            'pool_include_prefix': True,
        },
        {'num_registers': 2, 'class_token': False, 'pool_prefix': True},
    ),
    'layer scale, QK-norm, no QKV bias': (
        PLAIN,
        {'init_values': 0.1, 'qk_norm': True, 'qkv_bias': False, 'mlp_ratio': 2.6},
        {'layer_scale': 0.1, 'qk_norm': True, 'qkv_bias': False, 'mlp_dim': 83},
    ),
    'SwiGLU': (
        GATED,
        {'mlp_ratio': 5.0},
        {'gated_mlp': True, 'activation': 'silu', 'mlp_dim': 80, 'layer_scale': 1e-5},
    ),
    'CLIP': (
        CLIP,
        {'act_layer': 'quick_gelu'},
        {
            'norm_embeddings': True,
            'patch_bias': False,
            'activation': 'quick_gelu',
            'norm_epsilon': 1e-5,
        },
    ),
    'gray, not square': (
        PLAIN,
        {'in_chans': 1, 'img_size': (16, 24), 'patch_size': (4, 8)},
        {'in_channels': 1, 'image_size': (16, 24), 'patch_size': (4, 8)},
    ),
    'DeiT distilled': (DISTILLED, {}, {'distillation': 'head'}),
    'DeiT III': (DEIT3, {}, {'prefix_positions': 'none'}),
    'DINOv2 with registers': (REGISTERS, {}, {'num_registers': 4, 'prefix_positions': 'none'}),
}

TINY = dict(image_size=16, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
VIT = TINY | {'intermediate_size': 64}
LABELS = {index: name for index, name in enumerate(['ant', 'bee', 'cat', 'dog', 'elk'])}
DINO = TINY | {'mlp_ratio': 2}
RECTANGLE = {'image_size': [16, 24], 'patch_size': [4, 8], 'num_channels': 1}

# Case -> class of transformers, settings of its config, and attributes of the loaded model.
HUGGINGFACE = {
    'ViT with pooler': (
        'ViTModel',
        VIT | {'pooler_output_size': 20},
        {'representation_size': 20, 'num_classes': 0, 'norm_epsilon': 1e-12},
    ),
    'ViT with head': (
        'ViTForImageClassification',
        VIT | {'id2label': LABELS, 'layer_norm_eps': 1e-5, 'hidden_act': 'gelu_new'},
        {'num_classes': 5, 'norm_epsilon': 1e-5, 'activation': 'gelu_tanh'},
    ),
    'ViT, no QKV bias, rectangle': (
        'ViTForImageClassification',
        VIT | RECTANGLE | {'qkv_bias': False, 'hidden_act': 'quick_gelu'},
        {'qkv_bias': False, 'image_size': (16, 24), 'in_channels': 1, 'activation': 'quick_gelu'},
    ),
    'DeiT with pooler': ('DeiTModel', VIT, {'distillation': 'token', 'representation_size': 32}),
    'DeiT with head': ('DeiTForImageClassification', VIT, {'distillation': 'token'}),
    'DeiT with teacher': (
        'DeiTForImageClassificationWithTeacher',
        VIT | {'id2label': LABELS},
        {'distillation': 'head', 'num_classes': 5},
    ),
    'DINOv2': ('Dinov2Model', DINO, {'pooling': 'cls', 'norm_epsilon': 1e-6, 'mlp_dim': 64}),
    'DINOv2, SwiGLU': (
        'Dinov2Model',
        DINO | {'use_swiglu_ffn': True},
        {'gated_mlp': True, 'activation': 'silu', 'mlp_dim': 48},
    ),
    'DINOv2 with head': (
        'Dinov2ForImageClassification',
        DINO | {'id2label': LABELS},
        {'pooling': 'cls_mean', 'num_classes': 5},
    ),
    'DINOv2 with registers': (
        'Dinov2WithRegistersModel',
        DINO | {'num_register_tokens': 3, 'use_swiglu_ffn': True},
        {'num_registers': 3, 'prefix_positions': 'class'},
    ),
    'DINOv2 with registers and head': (
        'Dinov2WithRegistersForImageClassification',
        DINO | {'num_register_tokens': 2, 'id2label': LABELS},
        {'num_registers': 2, 'pooling': 'cls_mean'},
    ),
}

# Meta's code is not a package. DINOv2 of transformers computes the same, and so do DeiT and MAE of timm;
# their tensors get Meta's names. Case -> class of transformers, settings of its config, and attributes.
META_DINO = {
    'DINOv2': (
        'Dinov2Model',
        DINO,
        {'num_heads': 4, 'layer_scale': 1e-5, 'positions': 'learned', 'mlp_dim': 64},
    ),
    'DINOv2, SwiGLU': (
        'Dinov2Model',
        DINO | {'use_swiglu_ffn': True},
        {'gated_mlp': True, 'mlp_dim': 48, 'activation': 'silu'},
    ),
    'DINOv2 with registers': (
        'Dinov2WithRegistersModel',
        DINO | {'num_register_tokens': 3},
        {'num_registers': 3, 'prefix_positions': 'class'},
    ),
    'DINOv2 with linear head': (
        'Dinov2ForImageClassification',
        DINO | {'num_labels': 5},
        {'num_classes': 5, 'pooling': 'cls_mean'},
    ),
}
# Case -> timm's architecture, arguments, pattern and replacement for the names, and attributes.
META_TIMM = {
    'DeiT III': (
        DEIT3,
        {},
        (r'\.ls(\d)\.gamma', r'.gamma_\1'),
        {'layer_scale': 1e-5, 'prefix_positions': 'none'},
    ),
    'MAE, fine-tuned': (
        PLAIN,
        {'global_pool': 'avg'},
        (r'^', 'model.'),
        {'pooling': 'mean', 'class_token': True, 'norm_after_pooling': True},
    ),
    'DeiT distilled': (DISTILLED, {}, (r'^', 'model.'), {'distillation': 'head'}),
}

# Settings of `transformers.ViTMAEConfig`.
MAE = dict(
    image_size=16,
    patch_size=4,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    decoder_hidden_size=16,
    decoder_num_hidden_layers=3,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=64,
    layer_norm_eps=1e-6,
    norm_pix_loss=True,
)

# Case -> settings of `transformers.MarianConfig`, and of its generation.
MARIAN = {
    'shared': ({}, {}),
    'unscaled': (dict(scale_embedding=False, activation_function='relu'), {}),
    'separate': (dict(share_encoder_decoder_embeddings=False, activation_function='gelu'), {}),
    'untied': (dict(tie_word_embeddings=False), {}),
    'separate, untied, unscaled': (
        dict(
            share_encoder_decoder_embeddings=False, tie_word_embeddings=False, scale_embedding=False
        ),
        {},
    ),
    'generation as published': ({}, {'renormalize_logits': True}),
    'plain generation': ({}, {'bad_words_ids': None, 'forced_eos_token_id': None}),
    'long generation': ({}, {'length_penalty': 2.0, 'early_stopping': True, 'num_beams': 2}),
}
