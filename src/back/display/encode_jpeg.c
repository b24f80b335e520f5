/*
 * back/display/encode_jpeg.c - a rectangle as a JPEG image, by libjpeg-turbo.
 *
 * Runs   on the display's thread.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "back/display/encode.h"

struct failure {
    struct jpeg_error_mgr manager;
    jmp_buf back;
};

static void fail(j_common_ptr info)
{
    longjmp(((struct failure *)info->err)->back, 1);
}

static void say_nothing(j_common_ptr info)
{
}

/* Compresses into memory of the library's, at *IMAGE. False when it cannot. */
static bool image_compress(const struct encode_area *area, int quality, unsigned char **image,
                           unsigned long *image_bytes)
{
    static const int qualities[10] = {15, 29, 41, 42, 62, 77, 79, 86, 92, 100};
    struct jpeg_compress_struct info;
    struct failure failure;

    info.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = fail;
    failure.manager.output_message = say_nothing;
    if (setjmp(failure.back) != 0) {
        jpeg_destroy_compress(&info);
        return false;
    }
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, image, image_bytes);
    info.image_width = area->width;
    info.image_height = area->height;
    info.input_components = 4;
    info.in_color_space = JCS_EXT_BGRX; /* a surface's pixels in memory */
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, qualities[quality], TRUE);
    info.dct_method = JDCT_FASTEST;
    if (quality >= 8) /* colour as sharp as brightness */
        info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        const u32 *row = area->pixels + (size_t)info.next_scanline * area->stride;
        JSAMPROW rows[1] = {(JSAMPROW)(uintptr_t)row};
        jpeg_write_scanlines(&info, rows, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    return true;
}

bool encode_jpeg(const struct encode_area *area, int quality, struct buffer *out)
{
    unsigned char *image = NULL;
    unsigned long image_bytes = 0;

    bool is_good = image_compress(area, quality, &image, &image_bytes);
    if (is_good)
        buffer_put(out, image, image_bytes);
    free(image);
    return is_good;
}
